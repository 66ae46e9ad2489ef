#include "policy/aging.h"

#include <gtest/gtest.h>

#include <vector>

namespace gimbal::policy {
namespace {

TEST(AgingTest, P99IsTheNearestRank) {
  std::vector<Duration> waits;
  for (int i = 200; i > 0; --i)
    waits.emplace_back(i);
  EXPECT_EQ(wait_p99(waits), Duration{198});
  waits.assign({Duration{5}, Duration{9}, Duration{7}});
  EXPECT_EQ(wait_p99(waits), Duration{9});
  waits.assign({Duration{4}});
  EXPECT_EQ(wait_p99(waits), Duration{4});
}

TEST(AgingTest, MovesTowardsArrivalOrderWhenTheTailIsWorse) {
  EXPECT_DOUBLE_EQ(next_aging(0.1, from_ms(1060), from_ms(1000)), 0.15);
  EXPECT_DOUBLE_EQ(next_aging(0.1, from_ms(1040), from_ms(1000)), 0.1);  // within 5 %
  EXPECT_DOUBLE_EQ(next_aging(0.1, from_ms(9), from_ms(0)), 0.1);        // within 10 ms
}

TEST(AgingTest, MovesTowardsJobSizeWhenTheTailIsBetter) {
  EXPECT_DOUBLE_EQ(next_aging(0.15, from_ms(990), from_ms(1000)), 0.1);
  EXPECT_DOUBLE_EQ(next_aging(0.1, from_ms(1000), from_ms(1000)), 0.1);
}

TEST(AgingTest, StaysWithinItsBounds) {
  EXPECT_DOUBLE_EQ(next_aging(8, from_ms(2000), from_ms(1000)), 10);
  EXPECT_DOUBLE_EQ(next_aging(0.0101, from_ms(900), from_ms(1000)), 0.01);
}

}  // namespace
}  // namespace gimbal::policy
