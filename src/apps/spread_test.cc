#include "apps/spread.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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

TEST(Spread, IsWrittenInTheUnitThatIsAskedFor) {
  const Spread spread{.median = 2.5e9, .min = 2e9, .max = 3.14159e9};
  EXPECT_EQ(to_text(spread, 1e9), "2.5 (2 to 3.142)");
  EXPECT_EQ(to_json(spread).dump(),
            R"({"max":3141590000.0,"median":2500000000.0,"min":2000000000.0})");
}

}  // namespace
}  // namespace gimbal::apps
