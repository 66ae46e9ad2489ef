#include "server/openai_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "server/digest.h"

namespace gimbal::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr RequestLimits kLimits{
    .max_model_len = 100, .vocab_size = 50, .longest_token_bytes = 8, .max_choices = 200};

// A request with further fields, as the inside of a JSON object.
Result<GenerationRequest> completion(const std::string& fields) {
  return parse_completion_request(R"({"prompt":"hi")" + (fields.empty() ? "" : "," + fields) + "}",
                                  kLimits);
}
Result<GenerationRequest> chat(const std::string& fields) {
  return parse_chat_request(R"({"messages":[{"role":"user","content":"hi"}])" +
                                (fields.empty() ? "" : "," + fields) + "}",
                            kLimits);
}
Result<GenerationRequest> chat_of(const std::string& messages) {
  return parse_chat_request(R"({"messages":)" + messages + "}", kLimits);
}

void expect_refused(const Result<GenerationRequest>& result, const std::string& field,
                    ErrorCode code = ErrorCode::kInvalidArgument) {
  ASSERT_FALSE(result.ok()) << field;
  EXPECT_EQ(result.error().field, field) << result.error().message;
  EXPECT_THAT(result.error().message, HasSubstr(field));
  EXPECT_EQ(result.error().code, code) << result.error().message;
}

TEST(OpenaiRequestTest, LeavesDefaultsWhereNothingIsAsked) {
  const auto request = completion("");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->endpoint, Endpoint::kCompletions);
  EXPECT_EQ(request->n, 1);
  EXPECT_FALSE(request->stream);
  EXPECT_FALSE(request->max_tokens);
  EXPECT_FALSE(request->seed);
  EXPECT_FALSE(request->request_class);
  EXPECT_TRUE(request->add_special_tokens);
  EXPECT_TRUE(request->skip_special_tokens);
  EXPECT_EQ(request->sampling.temperature, 1.0F);
  EXPECT_EQ(request->sampling.logprobs, -1);
  EXPECT_TRUE(request->unknown_fields.empty());
  ASSERT_TRUE(chat("").ok());
  EXPECT_FALSE(chat("")->add_special_tokens);
  EXPECT_TRUE(chat("")->chat.add_generation_prompt);
}

TEST(OpenaiRequestTest, ReadsSamplingFields) {
  const auto request = completion(
      R"("model":"m","temperature":0.5,"top_p":0.9,"top_k":7,"min_p":0.1,"presence_penalty":1,
         "frequency_penalty":-1.5,"repetition_penalty":1.1,"min_tokens":2,"max_tokens":9,
         "ignore_eos":true,"seed":-3,"logit_bias":{"3":2.5,"49":-100,"4":0},"n":4,"best_of":4,
         "stop_token_ids":[1,2],"logprobs":5,"include_stop_str_in_output":true,
         "skip_special_tokens":false,"spaces_between_special_tokens":false,
         "add_special_tokens":false,"return_tokens_as_token_ids":true)");
  ASSERT_TRUE(request.ok()) << request.error().message;
  const auto& sampling = request->sampling;
  EXPECT_EQ(request->model, "m");
  EXPECT_FLOAT_EQ(sampling.temperature, 0.5F);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.9F);
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_FLOAT_EQ(sampling.min_p, 0.1F);
  EXPECT_FLOAT_EQ(sampling.presence_penalty, 1.0F);
  EXPECT_FLOAT_EQ(sampling.frequency_penalty, -1.5F);
  EXPECT_FLOAT_EQ(sampling.repetition_penalty, 1.1F);
  EXPECT_EQ(sampling.min_tokens, 2);
  EXPECT_EQ(request->max_tokens, 9);
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(request->seed, static_cast<std::uint64_t>(-3));
  EXPECT_THAT(sampling.logit_bias,
              ::testing::UnorderedElementsAre(Pair(3, 2.5F), Pair(49, -100.F)));
  EXPECT_EQ(request->n, 4);
  EXPECT_THAT(sampling.stop_token_ids, ElementsAre(1, 2));
  EXPECT_EQ(sampling.logprobs, 5);
  EXPECT_FALSE(sampling.prompt_logprobs);
  EXPECT_TRUE(request->include_stop_in_output);
  EXPECT_FALSE(request->skip_special_tokens);
  EXPECT_FALSE(request->add_special_tokens);
  EXPECT_TRUE(request->tokens_as_ids);
  EXPECT_TRUE(request->unknown_fields.empty());
}

TEST(OpenaiRequestTest, TakesNeutralValuesOfSampling) {
  EXPECT_EQ(completion(R"("top_k":-1)")->sampling.top_k, 0);
  EXPECT_EQ(completion(R"("top_k":50)")->sampling.top_k, 0);  // all there are
  EXPECT_EQ(completion(R"("temperature":1e-300)")->sampling.temperature, 0.0F);
  EXPECT_EQ(completion(R"("temperature":null,"seed":null,"max_tokens":null)")->sampling.temperature,
            1.0F);
  EXPECT_EQ(completion(R"("n":2.0)")->n, 2);
}

TEST(OpenaiRequestTest, NamesWrongValues) {
  for (const auto& [field, values] : std::vector<std::pair<const char*, std::vector<const char*>>>{
           {"model", {"1", "[]", "true"}},
           {"temperature", {"-0.1", "2.1", "\"1\"", "true", "1e999", "[1]"}},
           {"top_p", {"0", "1.1", "-1", "\"x\""}},
           {"top_k", {"-2", "1.5", "99999999999999999999", "\"1\""}},
           {"min_p", {"-0.1", "1.1"}},
           {"presence_penalty", {"-2.1", "2.1", "{}"}},
           {"frequency_penalty", {"-2.1", "2.1"}},
           {"repetition_penalty", {"0", "-1", "1e9"}},
           {"n", {"0", "129", "-1", "1.5", "\"2\"", "true"}},
           {"seed", {"1.5", "\"1\"", "18446744073709551616", "9223372036854775808"}},
           {"min_tokens", {"-1", "1e30"}},
           {"ignore_eos", {"1", "\"true\""}},
           {"stream", {"1", "\"true\"", "[]"}},
           {"stream_options", {"1", "[]", "\"x\"", R"({"include_usage":true})"}},
           {"stop", {"1", "[1]", R"([""])", R"(["a",null])", "{}"}},
           {"stop_token_ids", {"1", "[-1]", "[50]", "[1.5]", R"(["1"])", "[1e99]"}},
           {"logit_bias",
            {"[]", "1", R"({"x":1})", R"({"-1":1})", R"({"50":1})", R"({"":1})",
             R"({"99999999999":1})"}},
           {"service_tier", {"\"scale\"", "\"\"", "\"Flex\""}},
           {"priority", {"1.5", "\"1\"", "1e12"}},
           {"cache_salt", {"\"\"", "1"}},
           {"user", {"1", "[]"}},
           {"prompt_cache_key", {"1"}},
           {"add_special_tokens", {"1"}},
           {"skip_special_tokens", {"\"no\""}}}) {
    for (const char* value : values) {
      const std::string text = std::string("\"") + field + "\":" + value;
      SCOPED_TRACE(text);
      // A number that no double holds is no JSON for us; the error has no field then.
      if (std::string(value) == "1e999") {
        EXPECT_FALSE(completion(text).ok());
        continue;
      }
      expect_refused(completion(text), field);
      expect_refused(chat(text), field);
    }
  }
  expect_refused(completion(R"("logit_bias":{"1":101})"), "logit_bias.1");
  expect_refused(completion(R"("stream":true,"stream_options":{"include_usage":1})"),
                 "stream_options.include_usage");
}

TEST(OpenaiRequestTest, ReadsEveryFormOfPrompt) {
  const auto parse = [](const std::string& prompt) {
    return parse_completion_request("{\"prompt\":" + prompt + "}", kLimits);
  };
  EXPECT_EQ(parse(R"("text")")->prompts[0].text, "text");
  const auto texts = parse(R"(["a","b"])");
  ASSERT_EQ(texts->prompts.size(), 2U);
  EXPECT_EQ(texts->prompts[1].text, "b");
  const auto tokens = parse("[1,2,49]");
  ASSERT_EQ(tokens->prompts.size(), 1U);
  EXPECT_TRUE(tokens->prompts[0].is_tokens);
  EXPECT_THAT(tokens->prompts[0].tokens, ElementsAre(1, 2, 49));
  const auto lists = parse("[[1],[2,3]]");
  ASSERT_EQ(lists->prompts.size(), 2U);
  EXPECT_THAT(lists->prompts[1].tokens, ElementsAre(2, 3));
  for (const char* wrong :
       {"null", "[]", "{}", "1", "true", R"(["a",1])", "[[1],2]", "[{}]", R"([["a"]])", "[[]]",
        "[[[1]]]", "[1,\"a\"]", "[1,null]", "[-1]", "[50]", "[1.5]", "[[1],[]]"}) {
    SCOPED_TRACE(wrong);
    const auto result = parse(wrong);
    ASSERT_FALSE(result.ok());
    EXPECT_THAT(result.error().field, ::testing::StartsWith("prompt"));
  }
  expect_refused(parse("[1,50]"), "prompt[1]");
  expect_refused(parse("[[1],[7,-1]]"), "prompt[1][1]");
  EXPECT_FALSE(parse_completion_request("{}", kLimits).ok());
}

TEST(OpenaiRequestTest, BoundsPromptsTimesChoices) {
  std::string many = "[\"a\"";
  for (int i = 0; i < 150; ++i)
    many += ",\"a\"";
  many += "]";
  EXPECT_TRUE(parse_completion_request("{\"prompt\":" + many + "}", kLimits).ok());
  expect_refused(parse_completion_request("{\"n\":2,\"prompt\":" + many + "}", kLimits), "n");
}

TEST(OpenaiRequestTest, ReadsMaxTokens) {
  expect_refused(completion(R"("max_tokens":0)"), "max_tokens");
  expect_refused(completion(R"("max_tokens":-1,"echo":true)"), "max_tokens");
  expect_refused(completion(R"("max_tokens":3000000000)"), "max_tokens");
  EXPECT_EQ(completion(R"("max_tokens":0,"echo":true)")->max_tokens, 0);
  EXPECT_EQ(chat(R"("max_tokens":5)")->max_tokens, 5);
  EXPECT_EQ(chat(R"("max_tokens":5,"max_completion_tokens":6)")->max_tokens, 6);
  expect_refused(chat(R"("max_completion_tokens":0)"), "max_completion_tokens");
  expect_refused(completion(R"("min_tokens":5,"max_tokens":4)"), "min_tokens");
}

TEST(OpenaiRequestTest, ReadsLogprobsOfBothEndpoints) {
  EXPECT_EQ(completion(R"("logprobs":0)")->sampling.logprobs, 0);
  expect_refused(completion(R"("logprobs":21)"), "logprobs");
  expect_refused(completion(R"("logprobs":true)"), "logprobs");
  EXPECT_TRUE(completion(R"("logprobs":2,"echo":true)")->sampling.prompt_logprobs);
  EXPECT_FALSE(completion(R"("echo":true)")->sampling.prompt_logprobs);
  EXPECT_EQ(chat(R"("logprobs":true)")->sampling.logprobs, 0);
  EXPECT_EQ(chat(R"("logprobs":true,"top_logprobs":20)")->sampling.logprobs, 20);
  EXPECT_EQ(chat(R"("logprobs":false,"top_logprobs":0)")->sampling.logprobs, -1);
  expect_refused(chat(R"("top_logprobs":2)"), "top_logprobs");
  expect_refused(chat(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs");
  expect_refused(chat(R"("logprobs":3)"), "logprobs");
}

TEST(OpenaiRequestTest, ReadsStops) {
  EXPECT_TRUE(completion(R"("stop":null)")->stop.empty());
  EXPECT_TRUE(completion(R"("stop":"")")->stop.empty());
  EXPECT_TRUE(completion(R"("stop":[])")->stop.empty());
  EXPECT_THAT(completion(R"("stop":"x")")->stop, ElementsAre("x"));
  EXPECT_THAT(completion(R"("stop":["x","yy"])")->stop, ElementsAre("x", "yy"));
  expect_refused(completion("\"stop\":\"" + std::string(1025, 'x') + "\""), "stop");
  std::string many = "\"stop\":[\"a\"";
  for (int i = 0; i < 32; ++i)
    many += ",\"a\"";
  expect_refused(completion(many + "]"), "stop");
}

TEST(OpenaiRequestTest, MapsServiceTiersToClasses) {
  using sched::RequestClass;
  EXPECT_EQ(chat(R"("service_tier":"auto")")->request_class, std::nullopt);
  EXPECT_EQ(chat(R"("service_tier":"default")")->request_class, RequestClass::kLatencySensitive);
  EXPECT_EQ(chat(R"("service_tier":"priority")")->request_class, RequestClass::kLatencySensitive);
  EXPECT_EQ(chat(R"("service_tier":"flex")")->request_class, RequestClass::kBestEffort);
  EXPECT_EQ(chat(R"("priority":-4)")->priority, -4);
}

TEST(OpenaiRequestTest, MakesKeysOfNames) {
  EXPECT_EQ(chat("")->cache_salt, 0U);
  EXPECT_EQ(chat("")->user_key, 0U);
  EXPECT_EQ(chat(R"("cache_salt":"s")")->cache_salt, secure_key("s"));
  EXPECT_EQ(chat(R"("user":"u")")->user_key, secure_key("u"));
  EXPECT_EQ(chat(R"("user":"u","prompt_cache_key":"k")")->user_key, secure_key("k"));
}

TEST(OpenaiRequestTest, RefusesWhatIsNotSupportedAndNamesIt) {
  const auto unsupported_field = [](const Result<GenerationRequest>& result,
                                    const std::string& field) {
    expect_refused(result, field, ErrorCode::kUnsupported);
  };
  for (const auto& [field, value] : std::initializer_list<std::pair<const char*, const char*>>{
           {"tools", R"([{"type":"function"}])"},
           {"tool_choice", "\"auto\""},
           {"functions", R"([{"name":"f"}])"},
           {"function_call", "\"auto\""},
           {"response_format", R"({"type":"json_object"})"},
           {"response_format", R"({"type":"json_schema","json_schema":{}})"},
           {"modalities", R"(["text","audio"])"},
           {"audio", R"({"voice":"x"})"},
           {"prediction", R"({"type":"content"})"},
           {"suffix", "\"s\""},
           {"use_beam_search", "true"},
           {"guided_json", "{\"a\":1}"},
           {"guided_regex", "\"a*\""},
           {"structured_outputs", R"({"json":"x"})"},
           {"prompt_logprobs", "1"},
           {"allowed_token_ids", "[1]"},
           {"bad_words", "[\"x\"]"},
           {"truncate_prompt_tokens", "5"},
           {"length_penalty", "2"}}) {
    const std::string text = std::string("\"") + field + "\":" + value;
    unsupported_field(completion(text), field);
    unsupported_field(chat(text), field);
  }
  unsupported_field(chat(R"("chat_template":"x")"), "chat_template");
  unsupported_field(chat(R"("echo":true)"), "echo");
  unsupported_field(completion(R"("best_of":2)"), "best_of");
  unsupported_field(completion(R"("stream":true,"stream_options":{"continuous_usage_stats":true})"),
                    "stream_options.continuous_usage_stats");
}

TEST(OpenaiRequestTest, TakesValuesThatAskForNothing) {
  const std::string fields =
      R"("tools":[],"tool_choice":"none","functions":null,"function_call":"none",
         "response_format":{"type":"text"},"modalities":["text"],"audio":null,"suffix":"",
         "use_beam_search":false,"guided_json":null,"guided_regex":"","structured_outputs":{},
         "logits_processors":[],"length_penalty":1.0,"parallel_tool_calls":true,"prediction":{},
         "stream_options":null)";
  const auto in_chat = chat(fields);
  ASSERT_TRUE(in_chat.ok()) << in_chat.error().message;
  EXPECT_TRUE(in_chat->unknown_fields.empty());
  EXPECT_TRUE(completion(fields + R"(,"best_of":1)").ok());
}

TEST(OpenaiRequestTest, CountsUnknownFields) {
  EXPECT_THAT(chat(R"("zeta":1,"alpha":{},"gone":null)")->unknown_fields,
              ElementsAre("alpha", "zeta"));
}

TEST(OpenaiRequestTest, BringsMessagesIntoOneForm) {
  const auto request = chat_of(
      R"([{"role":"developer","content":"be brief"},
          {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],
           "name":"eve"},
          {"role":"assistant","content":null,"tool_calls":[],"refusal":null}])");
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(parse_json(request->chat.messages_json).value(),
            Json::parse(R"([{"role":"system","content":"be brief"},
                            {"role":"user","content":"a\nb","name":"eve"},
                            {"role":"assistant","content":""}])"));
}

TEST(OpenaiRequestTest, NamesThePlaceInMessages) {
  expect_refused(chat_of("null"), "messages");
  expect_refused(chat_of("[]"), "messages");
  expect_refused(chat_of("{}"), "messages");
  expect_refused(chat_of("[1]"), "messages[0]");
  expect_refused(chat_of(R"([{"content":"x"}])"), "messages[0].role");
  expect_refused(chat_of(R"([{"role":"boss","content":"x"}])"), "messages[0].role");
  expect_refused(chat_of(R"([{"role":"user"}])"), "messages[0].content");
  expect_refused(chat_of(R"([{"role":"user","content":5}])"), "messages[0].content");
  expect_refused(chat_of(R"([{"role":"user","content":["x"]}])"), "messages[0].content[0]");
  expect_refused(chat_of(R"([{"role":"user","content":[{"type":"text"}]}])"),
                 "messages[0].content[0].text");
  expect_refused(chat_of(R"([{"role":"user","content":"x"},
                  {"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])"),
                 "messages[1].content[0].type", ErrorCode::kUnsupported);
  expect_refused(chat_of(R"([{"role":"tool","content":"x"}])"), "messages[0].role",
                 ErrorCode::kUnsupported);
  expect_refused(chat_of(R"([{"role":"assistant","tool_calls":[{}]}])"), "messages[0].tool_calls",
                 ErrorCode::kUnsupported);
}

TEST(OpenaiRequestTest, ReadsTemplateFields) {
  const auto request = chat(
      R"("add_generation_prompt":false,"chat_template_kwargs":{"enable_thinking":false},
         "add_special_tokens":true)");
  EXPECT_FALSE(request->chat.add_generation_prompt);
  EXPECT_EQ(request->chat.kwargs_json, R"({"enable_thinking":false})");
  EXPECT_TRUE(request->add_special_tokens);
  EXPECT_EQ(chat(R"("chat_template_kwargs":{})")->chat.kwargs_json, "");
  expect_refused(chat(R"("chat_template_kwargs":[1])"), "chat_template_kwargs");
}

TEST(OpenaiRequestTest, RefusesWhatIsNoJsonObject) {
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("1"),
        std::string(R"({"prompt":"a",})"), std::string(R"({"prompt":"a"} x)"),
        std::string(R"({"prompt":NaN})"), std::string(R"({"temperature":Infinity,"prompt":"a"})"),
        std::string("{\"prompt\":\"\xFF\"}"), std::string(R"({"prompt":"\ud800"})"),
        std::string(R"({"prompt":"\udc00\ud800"})"), std::string("{\"prompt\":\"a\nb\"}"),
        std::string(R"({"prompt":"a","prompt":"b"})"), std::string(100'000, '['),
        R"({"prompt":)" + std::string(5'000, '[') + std::string(5'000, ']') + "}",
        std::string("\xEF\xBB\xBF{\"prompt\":1}"), std::string("{\"prompt\":\"a\"}\0", 15)}) {
    const auto as_completion = parse_completion_request(body, kLimits);
    EXPECT_FALSE(as_completion.ok()) << body.substr(0, 60);
    EXPECT_FALSE(parse_chat_request(body, kLimits).ok());
    EXPECT_FALSE(parse_tokenize_request(body).ok());
    EXPECT_FALSE(parse_detokenize_request(body, kLimits).ok());
    if (!as_completion.ok()) {
      EXPECT_FALSE(as_completion.error().message.empty());
      EXPECT_LT(as_completion.error().message.size(), 1'000U);
    }
  }
  EXPECT_EQ(parse_completion_request(R"({"prompt":"\ud83d\ude00"})", kLimits)->prompts[0].text,
            "\xF0\x9F\x98\x80");
}

TEST(OpenaiRequestTest, ReadsTokenizeAndDetokenize) {
  const auto text = parse_tokenize_request(
      R"({"prompt":"x","model":"m","add_special_tokens":false,"return_token_strs":true})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->prompt, "x");
  EXPECT_EQ(text->model, "m");
  EXPECT_FALSE(text->add_special_tokens);
  EXPECT_TRUE(text->return_token_strings);
  EXPECT_TRUE(parse_tokenize_request(R"({"prompt":""})").ok());
  EXPECT_TRUE(parse_tokenize_request(R"({"messages":[{"role":"user","content":"x"}]})").ok());
  EXPECT_EQ(parse_tokenize_request("{}").error().field, "prompt");
  EXPECT_EQ(parse_tokenize_request(R"({"prompt":[1]})").error().field, "prompt");
  EXPECT_THAT(parse_detokenize_request(R"({"tokens":[1,2]})", kLimits)->tokens, ElementsAre(1, 2));
  EXPECT_TRUE(parse_detokenize_request(R"({"tokens":[]})", kLimits)->tokens.empty());
  EXPECT_EQ(parse_detokenize_request(R"({"tokens":[1,50]})", kLimits).error().field, "tokens[1]");
  EXPECT_EQ(parse_detokenize_request(R"({"tokens":"1"})", kLimits).error().field, "tokens");
}

}  // namespace
}  // namespace gimbal::server
