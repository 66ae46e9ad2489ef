#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace gimbal {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return invalid_argument("not even: " + std::to_string(value), "value");
  return value / 2;
}

Result<int> quarter(int value) {
  GIMBAL_ASSIGN_OR_RETURN(const int once, half(value));
  GIMBAL_ASSIGN_OR_RETURN(const int twice, half(once));
  return twice;
}

TEST(Result, PassesValuesAndErrorsThrough) {
  EXPECT_EQ(*quarter(8), 2);
  const auto failed = quarter(6);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message, "not even: 3");
  EXPECT_EQ(failed.error().field, "value");
}

TEST(Result, HoldsMoveOnlyValues) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 3);
}

TEST(Result, WithinAddsContextAndKeepsTheField) {
  const Error error = invalid_argument("bad", "f").within("config.json");
  EXPECT_EQ(error.message, "config.json: bad");
  EXPECT_EQ(error.field, "f");
}

TEST(ResultDeathTest, ValueOfAnErrorAborts) {
  const auto failed = half(1);
  EXPECT_DEATH((void)failed.value(), "not even: 1");
}

}  // namespace
}  // namespace gimbal
