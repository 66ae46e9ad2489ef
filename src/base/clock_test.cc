#include "base/clock.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

TEST(Clock, ManualClockMovesOnlyWhenTold) {
  ManualClock clock;
  const TimePoint start = clock.now();
  EXPECT_EQ(clock.now(), start);
  clock.advance(from_ms(1.5));
  EXPECT_EQ(clock.now() - start, std::chrono::microseconds(1500));
}

TEST(Clock, SteadyClockNeverGoesBack) {
  const SteadyClock clock;
  const TimePoint first = clock.now();
  EXPECT_LE(first, clock.now());
}

TEST(ClockDeathTest, ManualClockRefusesThePast) {
  ManualClock clock;
  clock.advance(from_ms(2));
  EXPECT_DEATH(clock.set(TimePoint{from_ms(1)}), "check failed");
}

}  // namespace
}  // namespace gimbal
