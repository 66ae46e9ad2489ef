#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":}", "nul", "\"\xff\"", "1 2", "{'a':1}"}) {
    const auto parsed = parse_json(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(parsed.error().message, HasSubstr("JSON")) << text;
  }
}

TEST(Json, RefusesZeroBytes) {
  using namespace std::string_literals;
  EXPECT_FALSE(parse_json("{}\0"s).ok());
  EXPECT_FALSE(parse_json("{}\0garbage"s).ok());
  EXPECT_FALSE(parse_json("[\0]"s).ok());
}

TEST(Json, RefusesDuplicateKeysAndNamesThem) {
  const auto parsed = parse_json(R"({"a": {"seed": 1, "seed": 2}})");
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().field, "seed");
}

TEST(Json, AllowsTheSameKeyInSiblings) {
  EXPECT_TRUE(parse_json(R"([{"a": 1}, {"a": 1, "b": {"a": 2}}])").ok());
}

TEST(Json, RefusesDeepNestingWithoutRecursion) {
  const std::string deep(100000, '[');
  const auto parsed = parse_json(deep);
  ASSERT_FALSE(parsed.ok());
  EXPECT_THAT(parsed.error().message, HasSubstr("nested"));
}

TEST(Json, OfAPartOfAFileTheByteIsBesideTheMessage) {
  using namespace std::string_literals;
  const auto byte_of = [](std::string_view text) {
    std::size_t byte = 77;
    const auto parsed = parse_json(text, {.max_depth = 3}, byte);
    EXPECT_FALSE(parsed.ok()) << text;
    if (!parsed.ok()) {
      EXPECT_THAT(parsed.error().message, HasSubstr("JSON: "));
      EXPECT_THAT(parsed.error().message, Not(HasSubstr("byte "))) << text;
      EXPECT_THAT(parsed.error().message, Not(HasSubstr("line "))) << text;
    }
    return byte;
  };
  EXPECT_EQ(byte_of(R"({"a":1,})"), 8u);
  EXPECT_EQ(byte_of(R"({"a":nul})"), 9u);
  EXPECT_EQ(byte_of("{\"a\":\xff}"), 6u);
  EXPECT_EQ(byte_of("{\"a\":1\0}"s), 7u);
  EXPECT_EQ(byte_of(R"([[[[]]]])"), 4u);
  EXPECT_EQ(byte_of(R"({"a":1})"
                    "x"),
            8u);
  EXPECT_GE(byte_of("{"), 1u);
  EXPECT_GE(byte_of(""), 1u);
  EXPECT_GE(byte_of(R"({"a":1e999})"), 6u);
  EXPECT_EQ(byte_of(R"({"a":1,"a":2})"), 1u);  // of a key that is there twice it is not known
}

TEST(Json, HugeNumberIsAnError) {
  EXPECT_FALSE(parse_json("[1e99999]").ok());
}

TEST(JsonObject, NamesFieldValueAndRange) {
  const Json root = *parse_json(R"({"n": 900, "x": "hot", "inner": {"flag": 1}})");
  JsonObject object(root);
  const auto n = object.integer("n", 1, 128);
  ASSERT_FALSE(n.ok());
  EXPECT_EQ(n.error().message, "n must be an integer from 1 to 128, is 900");
  EXPECT_EQ(n.error().field, "n");
  EXPECT_FALSE(object.number("x", 0, 2).ok());
  JsonObject inner(*object.raw("inner"), "inner");
  EXPECT_EQ(inner.boolean("flag").error().field, "inner.flag");
}

TEST(JsonObject, NullIsAbsentAndWholeFloatsAreIntegers) {
  const Json root = *parse_json(R"({"a": null, "b": 3.0, "c": 3.5, "d": 18446744073709551615})");
  JsonObject object(root);
  EXPECT_EQ(*object.integer("a", 0, 9), std::nullopt);
  EXPECT_EQ(*object.integer("b", 0, 9), 3);
  EXPECT_FALSE(object.integer("c", 0, 9).ok());
  EXPECT_FALSE(object.integer("d", 0, INT64_MAX).ok());
}

TEST(JsonObject, KnowsWhatNobodyAskedFor) {
  const Json root = *parse_json(R"({"a": 1, "b": 2, "c": 3})");
  JsonObject object(root);
  (void)object.raw("b");
  EXPECT_THAT(object.unread(), ElementsAre("a", "c"));
}

TEST(JsonObject, NotANumberIsOutOfEveryRange) {
  const Json root = {{"x", std::nan("")}};
  JsonObject object(root);
  EXPECT_FALSE(object.number("x", -1e300, 1e300).ok());
}

TEST(ReadJsonFile, SaysWhatCannotBeRead) {
  const auto folder = read_json_file("/");
  ASSERT_FALSE(folder.ok());
  EXPECT_THAT(folder.error().message, testing::HasSubstr("directory"));
  const auto missing = read_json_file("/no such file");
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, testing::HasSubstr("/no such file"));
}

}  // namespace
}  // namespace gimbal
