#include "apps/spread.h"

#include <gtest/gtest.h>

namespace gimbal::apps {
namespace {

TEST(Spread, TakesTheMiddleOfAnOddNumber) {
  const Spread spread = spread_of({9.0, 1.0, 4.0});
  EXPECT_EQ(spread.median, 4.0);
  EXPECT_EQ(spread.min, 1.0);
  EXPECT_EQ(spread.max, 9.0);
}

TEST(Spread, TakesTheMeanOfTheMiddleTwoOfAnEvenNumber) {
  EXPECT_EQ(spread_of({8.0, 1.0, 2.0, 4.0}).median, 3.0);
}

TEST(Spread, OfOneValueIsThatValue) {
  const Spread spread = spread_of({2.5});
  EXPECT_EQ(spread.median, 2.5);
  EXPECT_EQ(spread.min, 2.5);
  EXPECT_EQ(spread.max, 2.5);
}

}  // namespace
}  // namespace gimbal::apps
