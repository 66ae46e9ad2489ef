#include "apps/number_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gimbal::apps {
namespace {

using testing::HasSubstr;

// What the command line says of `--x VALUE`; empty: it takes it.
std::string said_of(const CLI::Validator& check, const std::string& value) {
  CLI::App app;
  double x = 0;
  app.add_option("--x", x)->check(check);
  try {
    app.parse(std::vector<std::string>{"--x=" + value});
    return {};
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
}

TEST(NumberRange, NumbersAreShort) {
  EXPECT_EQ(said_of(at_least_zero(), "-1"), "--x: must be at least 0, is -1");
  EXPECT_EQ(said_of(at_least_zero(), "-1e308"), "--x: must be at least 0, is -1e308");
  EXPECT_EQ(said_of(above_zero(), "0"), "--x: must be above 0, is 0");
  EXPECT_EQ(said_of(number_range(0, 1000), "1e308"), "--x: must be from 0 to 1000, is 1e308");
  EXPECT_EQ(said_of(number_range(1e-6, 1), "2"), "--x: must be from 1e-06 to 1, is 2");
  EXPECT_EQ(said_of(number_range(1, 2147483647), "0"), "--x: must be from 1 to 2147483647, is 0");
}

TEST(NumberRange, EndsBelongToIt) {
  for (const char* value : {"0", "1000", "0.5", "1e3"})
    EXPECT_EQ(said_of(number_range(0, 1000), value), "") << value;
  for (const char* value : {"0", "1e308", "5"})
    EXPECT_EQ(said_of(at_least_zero(), value), "") << value;
  EXPECT_EQ(said_of(above_zero(), "1e-300"), "");
}

TEST(NumberRange, ZeroMayTurnSomethingOff) {
  const CLI::Validator check = zero_or_range(0.001, 3600);
  for (const char* value : {"0", "0.0", "-0", "0.001", "1", "3600"})
    EXPECT_EQ(said_of(check, value), "") << value;
  for (const char* value : {"1e-10", "0.0009", "-1", "3601", "1e308"})
    EXPECT_NE(said_of(check, value), "") << value;
  EXPECT_EQ(said_of(check, "1e-10"), "--x: must be 0 or from 0.001 to 3600, is 1e-10");
}

TEST(NumberRange, WhatIsNoFiniteNumberIsRefused) {
  for (const char* value : {"nan", "-nan", "inf", "-inf", "1e999", "x", "1x", "", " ", "--"}) {
    for (const CLI::Validator& check :
         {at_least_zero(), above_zero(), number_range(-5, 5), zero_or_range(1, 5)})
      EXPECT_NE(said_of(check, value), "") << value;
  }
}

TEST(NumberRange, GoesTogetherWithWords) {
  const CLI::Validator either = above_zero() | CLI::IsMember({"auto"});
  EXPECT_EQ(said_of(above_zero(), "3"), "");
  CLI::App app;
  std::string x;
  app.add_option("--x", x)->check(either);
  app.parse(std::vector<std::string>{"--x=auto"});
  EXPECT_EQ(x, "auto");
  EXPECT_THROW(app.parse(std::vector<std::string>{"--x=-1"}), CLI::ValidationError);
}

// No line of --help, and no error, may hold a number in 309 digits.
TEST(NumberRange, DescriptionsAreShort) {
  EXPECT_EQ(at_least_zero().get_description(), "NONNEGATIVE");
  EXPECT_EQ(above_zero().get_description(), "POSITIVE");
  EXPECT_THAT(number_range(0.5, 0.999).get_description(), HasSubstr("0.5 - 0.999"));
  EXPECT_EQ(zero_or_range(0.001, 3600).get_description(), "0 or in [0.001 - 3600]");
}

}  // namespace
}  // namespace gimbal::apps
