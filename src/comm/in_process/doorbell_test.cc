#include "comm/in_process/doorbell.h"

#include <gtest/gtest.h>

#include <thread>

namespace gimbal::comm {
namespace {

TEST(Doorbell, ReturnsAtOnceWhenRungBefore) {
  Doorbell bell;
  const std::uint32_t seen = bell.rings();
  bell.ring();
  bell.wait(seen, std::nullopt);  // would never return otherwise
  EXPECT_EQ(bell.rings(), seen + 1);
}

TEST(Doorbell, ALimitEndsTheWait) {
  Doorbell bell;
  bell.wait(bell.rings(), std::chrono::microseconds(50));
  bell.wait(bell.rings(), std::chrono::microseconds(50), std::chrono::microseconds(5));
  bell.wait(bell.rings(), std::chrono::microseconds(5), std::chrono::microseconds(50));
  EXPECT_EQ(bell.rings(), 0u);
}

TEST(Doorbell, NoRingIsMissed) {
  for (const Duration spin : {Duration::zero(), Duration(std::chrono::microseconds(20))}) {
    Doorbell there;
    Doorbell back;
    constexpr int kRounds = 5000;
    std::thread other([&] {
      for (std::uint32_t round = 0; round < kRounds; ++round) {
        there.wait(round, std::nullopt, spin);
        back.ring();
      }
    });
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      there.ring();
      back.wait(round, std::nullopt, spin);
    }
    other.join();
    EXPECT_EQ(back.rings(), static_cast<std::uint32_t>(kRounds));
  }
}

}  // namespace
}  // namespace gimbal::comm
