#include "server/generation.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/fake_engine.h"
#include "server/server_fixture.h"
#include "server/test_http_client.h"

namespace gimbal::server {
namespace {

using ::testing::HasSubstr;

using GenerationTest = ServerTest;

TEST_F(GenerationTest, StreamsACompletionTokenByToken) {
  start();
  TestHttpClient client(server->port());
  const RequestId id =
      open_stream(client, "/v1/completions", R"({"model":"tiny","prompt":"ab","stream":true})");
  engine->say(id, 'x');
  const auto head = client.read_head();
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-type"), "text/event-stream; charset=utf-8");
  const Json first = event_json(client);
  EXPECT_EQ(first.at("object"), "text_completion");
  EXPECT_EQ(first.at("model"), "tiny");
  EXPECT_EQ(first.at("choices").at(0).at("text"), "x");
  EXPECT_TRUE(first.at("choices").at(0).at("finish_reason").is_null());
  engine->say(id, kHelloToken, sched::FinishReason::kLength);
  const Json last = event_json(client);
  EXPECT_EQ(last.at("choices").at(0).at("text"), "hello");
  EXPECT_EQ(last.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(last.at("id"), first.at("id"));
  EXPECT_EQ(client.read_event(), "[DONE]");
  EXPECT_EQ(client.read_event(), std::nullopt);
  // The connection serves on.
  EXPECT_EQ(client.request("GET", "/health").status, 200);
}

TEST_F(GenerationTest, SendsTheRoleWithTheFirstChatTokenAndTheUsageLast) {
  start();
  TestHttpClient client(server->port());
  const RequestId id = open_stream(client, "/v1/chat/completions",
                                   R"({"messages":[{"role":"user","content":"hi"}],"stream":true,
          "stream_options":{"include_usage":true}})");
  EXPECT_EQ(engine->submitted(1)[0].max_tokens,
            4096 - static_cast<int>(std::string("user: hi\nassistant: ").size()));
  engine->say({.request = id, .token = 'A', .cached_tokens = 16});
  ASSERT_EQ(client.read_head().status, 200);
  const Json first = event_json(client);
  EXPECT_EQ(first.at("object"), "chat.completion.chunk");
  EXPECT_EQ(first.at("choices").at(0).at("delta"), Json({{"role", "assistant"}, {"content", "A"}}));
  EXPECT_TRUE(first.at("usage").is_null());
  engine->say(id, kEndToken, sched::FinishReason::kStop);
  const Json last = event_json(client);
  EXPECT_EQ(last.at("choices").at(0).at("delta"), Json({{"content", ""}}));
  EXPECT_EQ(last.at("choices").at(0).at("finish_reason"), "stop");
  const Json usage = event_json(client);
  EXPECT_TRUE(usage.at("choices").empty());
  EXPECT_EQ(usage.at("usage").at("prompt_tokens"), 20);
  EXPECT_EQ(usage.at("usage").at("completion_tokens"), 2);
  EXPECT_EQ(usage.at("usage").at("total_tokens"), 22);
  EXPECT_EQ(usage.at("usage").at("prompt_tokens_details").at("cached_tokens"), 16);
  EXPECT_EQ(client.read_event(), "[DONE]");
}

TEST_F(GenerationTest, AnswersAWholeChatCompletion) {
  start();
  engine->run("word ");
  const auto response = post("/v1/chat/completions",
                             R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":7})");
  ASSERT_EQ(response.status, 200);
  const Json answer = json_of(response);
  EXPECT_EQ(answer.at("object"), "chat.completion");
  const Json& choice = answer.at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("content"), "word wo");
  EXPECT_EQ(choice.at("message").at("role"), "assistant");
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 7);
}

TEST_F(GenerationTest, GivesEveryChoiceOfEveryPromptItsPlace) {
  start();
  TestHttpClient client(server->port());
  client.send_request("POST", "/v1/completions",
                      R"({"prompt":["a","b"],"n":2,"seed":7,"max_tokens":3})");
  const auto requests = engine->submitted(4);
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_THAT(engine->groups(), ::testing::ElementsAre(4));  // accepted or refused as a whole
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(requests[i].prompt.back(), i < 2 ? 'a' : 'b');
    EXPECT_EQ(requests[i].sampling.choice, i % 2);
    EXPECT_EQ(requests[i].sampling.seed, 7U);
  }
  for (const std::size_t i : {3U, 1U, 0U, 2U}) {  // they end in any order
    engine->say(requests[i].id, static_cast<TokenId>('0' + i), sched::FinishReason::kLength);
  }
  const Json answer = json_of(client.read_response());
  ASSERT_EQ(answer.at("choices").size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answer.at("choices").at(i).at("index"), i);
    EXPECT_EQ(answer.at("choices").at(i).at("text"), std::to_string(i));
  }
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), 4);  // each prompt once, with <begin>
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 4);
}

TEST_F(GenerationTest, EndsAtAStopStringAcrossTokensAndCancelsTheRest) {
  start();
  TestHttpClient client(server->port());
  const RequestId id = open_stream(
      client, "/v1/completions", R"({"prompt":"p","stream":true,"stop":["END"],"max_tokens":100})");
  engine->say_bytes(id, "okENxENDmore");
  ASSERT_EQ(client.read_head().status, 200);
  std::string text;
  Json last;
  while (const auto event = client.read_event()) {
    if (*event == "[DONE]") break;
    last = parse_json(*event).value();
    text += last.at("choices").at(0).at("text").get<std::string>();
  }
  EXPECT_EQ(text, "okENx");
  EXPECT_EQ(last.at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(last.at("choices").at(0).at("stop_reason"), "END");
  EXPECT_THAT(engine->cancelled(1), ::testing::ElementsAre(id));
}

TEST_F(GenerationTest, NeverSendsHalfACharacter) {
  start();
  TestHttpClient client(server->port());
  const RequestId id =
      open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true,"max_tokens":5})");
  engine->say_bytes(id, "\xE2\x82\xAC!");
  engine->say(id, 0xE2, sched::FinishReason::kLength);
  ASSERT_EQ(client.read_head().status, 200);
  std::string text;
  while (const auto event = client.read_event()) {
    if (*event == "[DONE]") break;
    text += parse_json(*event).value().at("choices").at(0).at("text").get<std::string>();
  }
  EXPECT_EQ(text, "\xE2\x82\xAC!\xEF\xBF\xBD");
}

TEST_F(GenerationTest, EchoesThePromptWithItsLogprobs) {
  start();
  TestHttpClient client(server->port());
  client.send_request("POST", "/v1/completions",
                      R"({"prompt":[97,98],"echo":true,"logprobs":1,"max_tokens":1})");
  const auto request = engine->submitted(1)[0];
  EXPECT_TRUE(request.sampling.prompt_logprobs);
  EXPECT_EQ(request.sampling.logprobs, 1);
  cluster::TokenOutput output{.request = request.id, .token = 'c'};
  output.prompt_logprobs.push_back({.token = 'b', .logprob = -0.5F, .top = {{'b', -0.5F}}});
  output.logprobs = std::make_unique<sched::TokenLogprobs>(
      sched::TokenLogprobs{.token = 'c', .logprob = -2.0F, .rank = 2, .top = {{'z', -0.25F}}});
  output.finish = sched::FinishReason::kLength;
  engine->say(std::move(output));
  const Json choice = json_of(client.read_response()).at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "abc");
  const Json& logprobs = choice.at("logprobs");
  EXPECT_EQ(logprobs.at("tokens"), Json({"a", "b", "c"}));
  EXPECT_EQ(logprobs.at("token_logprobs"), Json({nullptr, -0.5, -2.0}));
  EXPECT_EQ(logprobs.at("top_logprobs"),
            Json({nullptr, {{"b", -0.5}}, {{"z", -0.25}, {"c", -2.0}}}));
  EXPECT_EQ(logprobs.at("text_offset"), Json({0, 1, 2}));
}

TEST_F(GenerationTest, EchoesWithoutTheEngineWhereNothingIsToBeGenerated) {
  start();
  const auto response = post("/v1/completions", R"({"prompt":"abc","echo":true,"max_tokens":0})");
  ASSERT_EQ(response.status, 200);
  const Json choice = json_of(response).at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "abc");
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_TRUE(engine->submitted(0).empty());
}

TEST_F(GenerationTest, CancelsWhenTheClientLeavesAStream) {
  start();
  RequestId id;
  {
    TestHttpClient client(server->port());
    id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
    engine->say(id, 'x');
    ASSERT_EQ(client.read_head().status, 200);
  }
  EXPECT_THAT(engine->cancelled(1), ::testing::ElementsAre(id));
}

TEST_F(GenerationTest, CancelsAndSaysSoWhenTheClientEndsItsSideWhileItWaits) {
  start();
  TestHttpClient client(server->port());
  client.send_request("POST", "/v1/completions", R"({"prompt":"p","n":2})");
  client.end_sending();
  const auto response = client.read_response();
  EXPECT_EQ(response.status, 499);
  EXPECT_THAT(json_of(response).at("error").at("message").get<std::string>(),
              HasSubstr("keep it open"));
  EXPECT_EQ(engine->cancelled(2).size(), 2U);
  const std::string metrics = get("/metrics").body;
  EXPECT_THAT(metrics, HasSubstr(R"(finished_reason="abort",model_name="tiny"} 2)"));
  EXPECT_THAT(metrics, ::testing::Not(HasSubstr(R"(reason="invalid"} 1)")));
}

TEST_F(GenerationTest, CancelsEveryChoiceWhenTheClientLeavesWhileItWaits) {
  start();
  {
    TestHttpClient client(server->port());
    client.send_request("POST", "/v1/completions", R"({"prompt":"p","n":3})");
    ASSERT_EQ(engine->submitted(3).size(), 3U);
  }
  EXPECT_EQ(engine->cancelled(3).size(), 3U);
}

TEST_F(GenerationTest, CancelsTheStreamOfAClientThatDoesNotRead) {
  ServerOptions options = test_options();
  options.http.max_pending_output_bytes = 100'000;
  start(options);
  TestHttpClient client(server->port());
  const RequestId id =
      open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true,"logprobs":20})");
  flood(id);
  EXPECT_THAT(engine->cancelled(1), ::testing::ElementsAre(id));
}

TEST_F(GenerationTest, StreamsALongEchoToAClientThatReadsLate) {
  ServerOptions options = test_options();
  options.http.max_pending_output_bytes = 100'000;
  start(options);
  TestHttpClient client(server->port());
  client.limit_receive_buffer(1 << 18);
  client.send_request(
      "POST", "/v1/completions",
      R"({"prompt":[97,98],"n":2,"echo":true,"logprobs":20,"max_tokens":2,"stream":true})");
  for (const auto& request : engine->submitted(2)) {  // each far more than sockets hold
    engine->say(bulky_output(request.id, 10'000));
    engine->say(request.id, 'z', sched::FinishReason::kLength);
  }
  ASSERT_EQ(client.read_head().status, 200);
  std::optional<std::string> last;
  std::size_t most = 0;
  while (auto event = client.read_event()) {
    most = std::max(most, event->size());
    last = std::move(event);
  }
  EXPECT_EQ(last, "[DONE]");
  EXPECT_GT(most, 5'000'000U);
}

TEST_F(GenerationTest, CancelsAfterATimeWithoutProgress) {
  ServerOptions options = test_options();
  options.http.write_time = std::chrono::milliseconds(20);
  options.http.max_pending_output_bytes = std::size_t{1} << 40;
  start(options);
  TestHttpClient client(server->port());
  const RequestId id =
      open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true,"logprobs":20})");
  flood(id);
  EXPECT_THAT(engine->cancelled(1), ::testing::ElementsAre(id));
}

TEST_F(GenerationTest, SaysWhenToRetryWhenTheQueueIsFull) {
  start();
  engine->refuse(Error{ErrorCode::kResourceExhausted, "the queue is full"});
  auto response = post("/v1/completions", R"({"prompt":"p"})");
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_EQ(json_of(response).at("error").at("code"), "rate_limit_exceeded");
  cluster::EngineSnapshot snapshot;
  snapshot.waiting_prefill_tokens = 9'000;
  snapshot.running_prefill_tokens = 500;
  snapshot.prefill_tokens_per_second = 1'000.0;
  engine->set_snapshot(snapshot);
  response = post("/v1/completions", R"({"prompt":"p","stream":true})");
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.at("retry-after"), "10");
}

TEST_F(GenerationTest, SaysWhenToRetryWhenTheQueueTurnsOutFull) {
  start();
  TestHttpClient client(server->port());
  const RequestId id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  engine->say({.request = id,
               .finish = sched::FinishReason::kFailed,
               .error = "the queue is full",
               .refused = ErrorCode::kResourceExhausted});
  const auto response = client.read_response();
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
}

TEST_F(GenerationTest, TellsOfAnEngineThatFails) {
  start();
  engine->refuse(Error{ErrorCode::kUnavailable, "the engine has failed"});
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"p"})").status, 503);
  engine->refuse(std::nullopt);
  TestHttpClient client(server->port());
  const RequestId waiting =
      open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  engine->finish(waiting, sched::FinishReason::kFailed, "device lost");
  const auto response = client.read_response();  // nothing was streamed: a plain error
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(json_of(response).at("error").at("message").get<std::string>(),
              HasSubstr("device lost"));
  const RequestId streaming =
      open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  engine->say(streaming, 'x');
  ASSERT_EQ(client.read_head().status, 200);
  EXPECT_EQ(event_json(client).at("choices").at(0).at("text"), "x");
  engine->finish(streaming, sched::FinishReason::kFailed, "device lost");
  EXPECT_EQ(event_json(client).at("error").at("code"), "internal_error");
  EXPECT_EQ(client.read_event(), "[DONE]");
  EXPECT_EQ(client.read_event(), std::nullopt);
}

TEST_F(GenerationTest, BoundsTheChoicesThatAreBeingGenerated) {
  ServerOptions options = test_options();
  options.max_running_choices = 2;
  start(options);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"p","n":3})").status, 429);
  TestHttpClient client(server->port());
  client.send_request("POST", "/v1/completions", R"({"prompt":"p","n":2})");
  ASSERT_EQ(engine->submitted(2).size(), 2U);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"p"})").status, 429);
  client.close();
  EXPECT_EQ(engine->cancelled(2).size(), 2U);
}

TEST_F(GenerationTest, CountsAChoiceAsOfTheEngineThatSpokeOfIt) {
  ServerOptions options = test_options();
  options.several_engines = true;
  start(options);
  TestHttpClient client(server->port());
  const RequestId id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  engine->say({.request = id, .engine = EngineId{2}, .token = 'x'});
  engine->say({.request = id, .token = 'y', .finish = sched::FinishReason::kLength});
  ASSERT_EQ(client.read_head().status, 200);
  while (client.read_event()) {
  }
  const std::string metrics = get("/metrics").body;
  for (const char* series : {R"(vllm:time_to_first_token_seconds_count{engine="2",)",
                             R"(vllm:inter_token_latency_seconds_count{engine="2",)",
                             R"(vllm:request_success_total{engine="2",finished_reason="length",)"})
    EXPECT_THAT(metrics, HasSubstr(std::string(series) + R"(model_name="tiny"} 1)"));
}

TEST_F(GenerationTest, RefusesPromptsThatDoNotFit) {
  start();
  auto response =
      post("/v1/completions", fmt::format(R"({{"prompt":"{}"}})", std::string(5'000, 'a')));
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(json_of(response).at("error").at("code"), "context_length_exceeded");
  response =
      post("/v1/completions", fmt::format(R"({{"prompt":"{}"}})", std::string(500'000, 'a')));
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(json_of(response).at("error").at("message").get<std::string>(),
              HasSubstr("500000 bytes"));
  response = post("/v1/completions", R"({"prompt":"aaaa","max_tokens":4092})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(json_of(response).at("error").at("param"), "max_tokens");
  // Without max_tokens an answer to a completion has 16.
  response = post("/v1/completions", R"({"prompt":"aaaa","min_tokens":17})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(json_of(response).at("error").at("param"), "min_tokens");
  EXPECT_TRUE(engine->submitted(0).empty());
}

TEST_F(GenerationTest, ReadsLongPromptsOnTheWorker) {
  ServerOptions options = test_options();
  options.inline_tokenize_bytes = 0;
  start(options);
  engine->run("z");
  const auto response = post("/v1/completions", R"({"prompt":"p","max_tokens":2})");
  ASSERT_EQ(response.status, 200);
  EXPECT_EQ(json_of(response).at("choices").at(0).at("text"), "zz");
  EXPECT_EQ(json_of(post("/tokenize", R"({"prompt":"ab"})")).at("count"), 3);
  EXPECT_EQ(post("/v1/completions", "{").status, 400);
}

}  // namespace
}  // namespace gimbal::server
