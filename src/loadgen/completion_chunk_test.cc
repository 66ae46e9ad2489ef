#include "loadgen/completion_chunk.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace gimbal::loadgen {
namespace {

TEST(CompletionChunk, ReadsCompletions) {
  const auto chunk = parse_completion_chunk(
      R"({"id":"x","choices":[{"index":0,"text":" hi","finish_reason":null}],"usage":null})");
  ASSERT_TRUE(chunk.ok());
  EXPECT_TRUE(chunk->has_choice);
  EXPECT_EQ(chunk->text, " hi");
  EXPECT_FALSE(chunk->usage);
}

TEST(CompletionChunk, ReadsChats) {
  const auto role =
      parse_completion_chunk(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})");
  EXPECT_TRUE(role->has_choice);
  EXPECT_EQ(role->text, "");
  EXPECT_EQ(parse_completion_chunk(R"({"choices":[{"delta":{"content":"a"}}]})")->text, "a");
}

TEST(CompletionChunk, ReadsUsage) {
  const auto chunk = parse_completion_chunk(
      R"({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,
          "prompt_tokens_details":{"cached_tokens":8}}})");
  ASSERT_TRUE(chunk.ok());
  EXPECT_FALSE(chunk->has_choice);
  ASSERT_TRUE(chunk->usage);
  EXPECT_EQ(chunk->usage->prompt_tokens, 9);
  EXPECT_EQ(chunk->usage->completion_tokens, 4);
  EXPECT_EQ(chunk->usage->cached_tokens, 8);
  for (const char* details :
       {"null", "{}", R"({"cached_tokens":null})", R"({"cached_tokens":"8"})"}) {
    const auto silent = parse_completion_chunk(
        fmt::format(R"({{"usage":{{"prompt_tokens":9,"prompt_tokens_details":{}}}}})", details));
    ASSERT_TRUE(silent->usage) << details;
    EXPECT_FALSE(silent->usage->cached_tokens) << details;
  }
}

TEST(CompletionChunk, ReadsErrors) {
  EXPECT_EQ(parse_completion_chunk(R"({"error":{"message":"no","code":500}})")->error, "no");
  EXPECT_EQ(parse_completion_chunk(R"({"error":"no"})")->error, "no");
  EXPECT_EQ(error_message(R"({"error":{"message":"full"}})"), "full");
  EXPECT_EQ(error_message(R"({"message":"older"})"), "older");
  EXPECT_EQ(error_message("<html>"), "<html>");
  EXPECT_EQ(error_message(std::string(1000, 'x')).size(), 200u);
}

TEST(CompletionChunk, TakesAnyShapeOrRefusesIt) {
  for (const char* text :
       {"{}", R"({"choices":3})", R"({"choices":[3]})", R"({"choices":[{"delta":[]}]})",
        R"({"choices":[{"text":5}]})", R"({"usage":[]})", R"({"usage":{"prompt_tokens":"x"}})",
        R"({"usage":{"prompt_tokens_details":4}})"}) {
    EXPECT_TRUE(parse_completion_chunk(text).ok()) << text;
  }
  for (const char* text : {"", "{", "[]", "null", "[DONE]", "{\"a\":}"}) {
    EXPECT_FALSE(parse_completion_chunk(text).ok()) << text;
  }
  EXPECT_FALSE(parse_completion_chunk(std::string(100'000, '[')).ok());
}

}  // namespace
}  // namespace gimbal::loadgen
