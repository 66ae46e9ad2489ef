#include "base/json_place.h"

#include <gtest/gtest.h>

#include <utility>

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

std::pair<int, std::size_t> place(std::string_view text, std::string_view path) {
  const JsonPlace found = json_place(text, path);
  return {found.line, found.column};
}

TEST(JsonPlaceTest, APlaceIsThatOfTheValue) {
  using Place = std::pair<int, std::size_t>;
  EXPECT_EQ(place(kText, "a"), Place(2, 8));
  EXPECT_EQ(place(kText, "groups[0]"), Place(5, 5));
  EXPECT_EQ(place(kText, "groups[0].deep.x[1]"), Place(6, 7));
  EXPECT_EQ(place(kText, "groups[1].speed"), Place(9, 16));
  EXPECT_EQ(place(kText, "groups[1].missing"), Place(7, 5));
  EXPECT_EQ(place("{\"a\"\n:\n  7}", "a"), Place(3, 3));
  EXPECT_EQ(place("  {}", "a"), Place(1, 3));
  EXPECT_EQ(place("\xEF\xBB\xBF{\"a\":1}", "a"), Place(1, 9));
  EXPECT_EQ(place(R"({"a":{"b":1},"c":2,"a":{"b":"x"}})", "a.b"), Place(1, 29));
}

TEST(JsonPlaceTest, FindsTheFirstBracketThatIsTooDeep) {
  EXPECT_EQ(json_byte_deeper_than(R"([{"a]]":[)", 2), 9u);
  EXPECT_EQ(json_byte_deeper_than(R"(["\"[[[", [1], [[2]]])", 2), 17u);
  EXPECT_EQ(json_byte_deeper_than("[[]]", 2), 0u);
  EXPECT_EQ(json_byte_deeper_than("]]][[", 1), 5u);
  EXPECT_EQ(json_byte_deeper_than("\"\\", 1), 0u);
  EXPECT_EQ(json_byte_deeper_than("", 1), 0u);
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
  for (const char* text : {"", "1", "[]", "\n\n{}"}) {
    EXPECT_GE(json_line(text, "a[0].b"), 1) << text;
    EXPECT_GE(json_place(text, "a[0].b").column, 1u) << text;
  }
  EXPECT_EQ(json_line("\n\n{}", "a"), 3);
}

}  // namespace
}  // namespace gimbal
