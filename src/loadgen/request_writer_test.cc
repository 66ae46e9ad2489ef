#include "loadgen/request_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace gimbal::loadgen {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using workload::RequestSpec;

RequestSpec request() {
  RequestSpec made;
  made.prompt = {{.identity = 1, .tokens = 3}, {.identity = 2, .tokens = 2}};
  made.output_tokens = 9;
  return made;
}

const TargetUrl kTarget{.host = "localhost", .port = 8000, .base_path = "/base"};

Json body_of(const std::string& text) {
  const auto head_end = text.find("\r\n\r\n");
  const std::string body = text.substr(head_end + 4);
  EXPECT_THAT(text, HasSubstr("Content-Length: " + std::to_string(body.size()) + "\r\n"));
  return *parse_json(body);
}

TEST(RequestWriter, WritesTokenIds) {
  const RequestOptions options{.model = "demo", .api_key = "k"};
  ASSERT_TRUE(validate(options).ok());
  const std::string text = write_request(request(), kTarget, options);
  EXPECT_THAT(text, StartsWith("POST /base/v1/completions HTTP/1.1\r\nHost: localhost:8000\r\n"));
  EXPECT_THAT(text, HasSubstr("Authorization: Bearer k\r\n"));
  const Json body = body_of(text);
  EXPECT_EQ(body["model"], "demo");
  EXPECT_EQ(body["max_tokens"], 9);
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["stream_options"]["include_usage"], true);
  EXPECT_EQ(body["ignore_eos"], true);
  EXPECT_EQ(body["temperature"], 0.0);
  EXPECT_EQ(body["prompt"].get<std::vector<TokenId>>(), prompt_tokens(request(), options.tokens));
  EXPECT_FALSE(body.contains("user"));
  EXPECT_FALSE(body.contains("service_tier"));
}

TEST(RequestWriter, SendsTheFieldsOfTheOperator) {
  const RequestOptions options{.api_key = "k",
                               .headers = {{"X-Info", "1 2"}, {"authorization", "Basic x"}}};
  const std::string text = write_request(request(), kTarget, options);
  EXPECT_THAT(text, HasSubstr("\r\nX-Info: 1 2\r\n"));
  EXPECT_THAT(text, HasSubstr("\r\nauthorization: Basic x\r\n"));
  EXPECT_THAT(text, Not(HasSubstr("Bearer")));
  EXPECT_EQ(body_of(text)["max_tokens"], 9);
}

TEST(RequestWriter, NamesUserAndClass) {
  RequestSpec made = request();
  made.user = "ann\"";
  made.traffic_class = workload::TrafficClass::kBestEffort;
  Json body = body_of(write_request(made, kTarget, {}));
  EXPECT_EQ(body["user"], "ann\"");
  EXPECT_EQ(body["service_tier"], "flex");
  made.traffic_class = workload::TrafficClass::kLatencySensitive;
  body = body_of(write_request(made, kTarget, {}));
  EXPECT_EQ(body["service_tier"], "default");
}

TEST(RequestWriter, NamesTheEngineThatAUserIsPinnedTo) {
  RequestSpec made = request();
  EXPECT_THAT(write_request(made, kTarget, {}), Not(HasSubstr("rank")));
  made.source = 3;
  EXPECT_THAT(write_request(made, kTarget, {}), HasSubstr("\r\nX-data-parallel-rank: 3\r\n"));
}

TEST(RequestWriter, WritesTextAndChats) {
  Json body = body_of(write_request(request(), kTarget, {.prompt_form = PromptForm::kText}));
  EXPECT_TRUE(body["prompt"].is_string());
  RequestSpec made = request();
  made.text = "line\n\"quoted\" \xff";
  body = body_of(write_request(made, kTarget, {}));
  EXPECT_EQ(body["prompt"], "line\n\"quoted\" \xEF\xBF\xBD");
  body = body_of(write_request(made, kTarget, {.endpoint = "/v1/chat/completions"}));
  EXPECT_EQ(body["messages"][0]["role"], "user");
  EXPECT_FALSE(body.contains("prompt"));
}

TEST(RequestWriter, LetsTheOperatorWin) {
  RequestOptions options{.ignore_eos = false, .temperature = {}};
  Json body = body_of(write_request(request(), kTarget, options));
  EXPECT_FALSE(body.contains("ignore_eos"));
  EXPECT_FALSE(body.contains("temperature"));
  options.extra_body = {{"max_tokens", 3}, {"seed", 5}, {"prompt", "mine"}};
  body = body_of(write_request(request(), kTarget, options));
  EXPECT_EQ(body["max_tokens"], 3);
  EXPECT_EQ(body["seed"], 5);
  EXPECT_EQ(body["prompt"], "mine");
}

TEST(RequestWriter, RefusesWhatWouldBreakTheRequest) {
  EXPECT_EQ(validate(RequestOptions{.endpoint = "v1"}).error().field, "endpoint");
  EXPECT_EQ(validate(RequestOptions{.endpoint = "/a b"}).error().field, "endpoint");
  EXPECT_EQ(validate(RequestOptions{.endpoint = "/a\r\nX: y"}).error().field, "endpoint");
  EXPECT_EQ(validate(RequestOptions{.api_key = "a\r\nb"}).error().field, "api_key");
  EXPECT_EQ(validate(RequestOptions{.extra_body = Json::array()}).error().field, "extra_body");
  EXPECT_EQ(validate(RequestOptions{.tokens = {.vocab_size = 0}}).error().field, "vocab_size");
}

}  // namespace
}  // namespace gimbal::loadgen
