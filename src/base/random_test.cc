#include "base/random.h"

#include <gtest/gtest.h>

#include <array>

namespace gimbal {
namespace {

using Words = std::array<std::uint32_t, 4>;

// Known answers published with the generator (Random123, kat_vectors).
TEST(Random, PhiloxMatchesPublishedVectors) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, BelowStaysInRangeAndReachesAll) {
  Rng rng(1);
  std::array<int, 7> counts{};
  for (int i = 0; i < 7000; ++i)
    ++counts[rng.below(7)];
  for (const int count : counts)
    EXPECT_GT(count, 800);
}

TEST(Random, BetweenTakesTheWholeRange) {
  Rng rng(2);
  for (int i = 0; i < 100; ++i) {
    const auto value = rng.between(-3, 3);
    EXPECT_GE(value, -3);
    EXPECT_LE(value, 3);
  }
  (void)rng.between(INT64_MIN, INT64_MAX);
}

TEST(Random, UniformIsBelowOne) {
  for (std::uint64_t position = 0; position < 10000; ++position) {
    const float value = philox_uniform(42, 0, position);
    EXPECT_GE(value, 0.0F);
    EXPECT_LT(value, 1.0F);
  }
}

}  // namespace
}  // namespace gimbal
