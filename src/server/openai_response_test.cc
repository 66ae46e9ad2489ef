#include "server/openai_response.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/api_error.h"
#include "server/fake_engine.h"

namespace gimbal::server {
namespace {

class OpenaiResponseTest : public ::testing::Test {
 protected:
  [[nodiscard]] ResponseWriter writer(Endpoint endpoint, bool stream, bool tokens_as_ids = false) {
    return {{.endpoint = endpoint,
             .id = "x-1",
             .model = "a \"model\"",
             .created = 77,
             .stream = stream,
             .tokens_as_ids = tokens_as_ids},
            codec.vocabulary()};
  }
  static Json event(const std::string& text) {
    EXPECT_TRUE(text.starts_with("data: ") && text.ends_with("\n\n")) << text;
    return parse_json(text.substr(6, text.size() - 8)).value();
  }

  ByteCodec codec;
};

TEST_F(OpenaiResponseTest, WritesCompletionChunks) {
  std::string out;
  writer(Endpoint::kCompletions, true).append_chunk(out, {.index = 3, .text = "a\n\"\xE2\x82\xAC"});
  EXPECT_EQ(event(out), Json::parse(R"({"id":"x-1","object":"text_completion","created":77,
      "model":"a \"model\"","system_fingerprint":"fp_gimbal","choices":[
      {"index":3,"text":"a\n\"€","logprobs":null,"finish_reason":null}]})"));
}

TEST_F(OpenaiResponseTest, SaysWhatStoppedAChoice) {
  const std::string stop = "END";
  std::string out;
  const auto chunks = writer(Endpoint::kChat, true);
  chunks.append_chunk(out, {.first = true, .finish_reason = "stop", .stop_string = &stop});
  Json choice = event(out).at("choices").at(0);
  EXPECT_EQ(choice.at("stop_reason"), "END");
  EXPECT_EQ(choice.at("delta").at("role"), "assistant");
  out.clear();
  chunks.append_chunk(out, {.finish_reason = "stop", .stop_token = 12});
  EXPECT_EQ(event(out).at("choices").at(0).at("stop_reason"), 12);
  out.clear();
  chunks.append_chunk(out, {.finish_reason = "length"});
  EXPECT_TRUE(event(out).at("choices").at(0).at("stop_reason").is_null());
}

TEST_F(OpenaiResponseTest, WritesChatLogprobsWithBytes) {
  const std::vector<sched::TokenLogprobs> entries{
      {.token = 0xE2, .logprob = -0.5F, .top = {{0xE2, -0.5F}, {'a', -1.25F}}}};
  std::string out;
  writer(Endpoint::kChat, true).append_chunk(out, {.logprobs = entries});
  const Json entry = event(out).at("choices").at(0).at("logprobs").at("content").at(0);
  EXPECT_EQ(entry.at("token"), "\xEF\xBF\xBD");
  EXPECT_EQ(entry.at("bytes"), Json({0xE2}));
  EXPECT_EQ(entry.at("logprob"), -0.5);
  ASSERT_EQ(entry.at("top_logprobs").size(), 2U);
  EXPECT_EQ(entry.at("top_logprobs").at(1).at("token"), "a");
  EXPECT_EQ(entry.at("top_logprobs").at(1).at("logprob"), -1.25);
}

TEST_F(OpenaiResponseTest, WritesCompletionLogprobsWithOffsets) {
  const std::vector<sched::TokenLogprobs> entries{
      {.token = kHelloToken, .logprob = -1.0F},
      {.token = 'b', .logprob = -2.0F, .top = {{0xE2, -0.5F}, {0xE3, -0.75F}, {'b', -2.0F}}}};
  const ChoicePart part{.logprobs = entries, .unscored = 'a', .text_offset = 10};
  const auto document = writer(Endpoint::kCompletions, false);
  const Json logprobs =
      parse_json(document.document({&part, 1}, {})).value().at("choices").at(0).at("logprobs");
  EXPECT_EQ(logprobs.at("tokens"), Json({"a", "hello", "b"}));
  EXPECT_EQ(logprobs.at("text_offset"), Json({10, 11, 16}));
  EXPECT_EQ(logprobs.at("token_logprobs"), Json({nullptr, -1.0, -2.0}));
  // Two bytes that look alike share a key: the more probable one is kept.
  EXPECT_EQ(logprobs.at("top_logprobs").at(2), Json({{"\xEF\xBF\xBD", -0.5}, {"b", -2.0}}));
  EXPECT_EQ(document.token_characters(part), 7U);
}

TEST_F(OpenaiResponseTest, NamesTokensByTheirIdsOnRequest) {
  const std::vector<sched::TokenLogprobs> entries{{.token = 'b', .logprob = -2.0F}};
  std::string out;
  writer(Endpoint::kCompletions, true, true).append_chunk(out, {.logprobs = entries});
  EXPECT_EQ(event(out).at("choices").at(0).at("logprobs").at("tokens"), Json({"token_id:98"}));
}

TEST_F(OpenaiResponseTest, WritesNumbersThatJsonHas) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<sched::TokenLogprobs> entries{{.token = 'a', .logprob = -infinity},
                                                  {.token = 'b', .logprob = std::nanf("")},
                                                  {.token = 'c', .logprob = 1e-9F}};
  std::string out;
  writer(Endpoint::kCompletions, true).append_chunk(out, {.logprobs = entries});
  EXPECT_EQ(event(out).at("choices").at(0).at("logprobs").at("token_logprobs"),
            Json({-9999.0, -9999.0, 0.0}));
}

TEST_F(OpenaiResponseTest, WritesDocumentsWithUsage) {
  const std::vector<ChoicePart> parts{{.index = 0, .text = "a", .finish_reason = "stop"},
                                      {.index = 1, .text = "b", .finish_reason = "length"}};
  const Json document =
      parse_json(
          writer(Endpoint::kChat, false)
              .document(parts, {.prompt_tokens = 5, .completion_tokens = 2, .cached_tokens = 4}))
          .value();
  EXPECT_EQ(document.at("object"), "chat.completion");
  EXPECT_EQ(document.at("choices").at(1).at("message"),
            Json::parse(R"({"role":"assistant","content":"b","refusal":null})"));
  EXPECT_EQ(document.at("usage"),
            Json::parse(R"({"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,
                            "prompt_tokens_details":{"cached_tokens":4}})"));
}

TEST_F(OpenaiResponseTest, ShapesErrorsAsOpenaiDoes) {
  const HttpResponse response =
      to_response(to_api_error(Error{ErrorCode::kResourceExhausted, "full \"up\"", "field"}));
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.extra_headers, "Retry-After: 1\r\n");
  EXPECT_EQ(parse_json(response.body).value(),
            Json::parse(R"({"error":{"message":"full \"up\"","type":"rate_limit_error",
                            "param":"field","code":"rate_limit_exceeded"}})"));
  EXPECT_EQ(to_api_error(invalid_argument("x")).status, 400);
  EXPECT_EQ(to_api_error(unsupported("x")).code, "unsupported");
  EXPECT_EQ(to_api_error({ErrorCode::kUnavailable, "x"}).status, 503);
  EXPECT_EQ(to_api_error({ErrorCode::kInternal, "x"}).status, 500);
  EXPECT_EQ(to_api_error({ErrorCode::kNotFound, "x"}).status, 404);
}

}  // namespace
}  // namespace gimbal::server
