#include "base/json_place.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

constexpr const char* kText = R"({
  "a": 1,
  "quoted \" name": ["]", "}"],
  "groups": [
    {"ranks": 2, "deep": {"x": [1,
      2, 3]}},
    {
      "ranks": 3,
      "speed": "fast"
    }
  ]
})";

TEST(JsonPlaceTest, FindsFieldsAndEntries) {
  EXPECT_EQ(json_line(kText, "a"), 2);
  EXPECT_EQ(json_line(kText, "groups"), 4);
  EXPECT_EQ(json_line(kText, "groups[0]"), 5);
  EXPECT_EQ(json_line(kText, "groups[0].ranks"), 5);
  EXPECT_EQ(json_line(kText, "groups[0].deep.x[1]"), 6);
  EXPECT_EQ(json_line(kText, "groups[1].ranks"), 8);
  EXPECT_EQ(json_line(kText, "groups[1].speed"), 9);
}

TEST(JsonPlaceTest, WhatIsMissingIsWhereItShouldBe) {
  EXPECT_EQ(json_line(kText, ""), 1);
  EXPECT_EQ(json_line(kText, "nothing"), 1);
  EXPECT_EQ(json_line(kText, "groups[1].missing"), 7);
  EXPECT_EQ(json_line(kText, "groups[7]"), 4);
  EXPECT_EQ(json_line(kText, "a.b"), 2);
}

TEST(JsonPlaceTest, SurvivesPathsThatMakeNoSense) {
  for (const char* path : {"[", "]", "groups[", "groups[x]", ".", "..", "groups[-1]", "[0]"})
    EXPECT_GE(json_line(kText, path), 1) << path;
  for (const char* text : {"", "1", "[]", "\n\n{}"})
    EXPECT_GE(json_line(text, "a[0].b"), 1) << text;
  EXPECT_EQ(json_line("\n\n{}", "a"), 3);
}

}  // namespace
}  // namespace gimbal
