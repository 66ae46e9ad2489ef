#include "server/server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.h"
#include "server/fake_engine.h"
#include "server/server_fixture.h"
#include "server/test_http_client.h"

namespace gimbal::server {
namespace {

using ::testing::HasSubstr;

TEST_F(ServerTest, TokenizesAndDetokenizes) {
  start();
  Json answer = json_of(post("/tokenize", R"({"prompt":"ab","return_token_strs":true})"));
  EXPECT_EQ(answer.at("tokens"), Json({257, 97, 98}));
  EXPECT_EQ(answer.at("count"), 3);
  EXPECT_EQ(answer.at("max_model_len"), 4096);
  EXPECT_EQ(answer.at("token_strs"), Json({"<begin>", "a", "b"}));
  answer = json_of(post("/tokenize", R"({"messages":[{"role":"user","content":"x"}]})"));
  EXPECT_EQ(answer.at("count"), std::string("user: x\nassistant: ").size());
  answer = json_of(post("/detokenize", R"({"tokens":[97,258]})"));
  EXPECT_EQ(answer.at("prompt"), "ahello");
  EXPECT_EQ(post("/detokenize", R"({"tokens":[259]})").status, 400);
  EXPECT_EQ(post("/tokenize", R"({"prompt":"a","model":"other"})").status, 404);
}

TEST_F(ServerTest, SurvivesWhatThirdPartiesThrow) {
  for (const std::size_t inline_bytes : {std::size_t{0}, std::size_t{4096}}) {
    ServerOptions options = test_options();
    options.inline_tokenize_bytes = inline_bytes;
    start(options);
    EXPECT_EQ(post("/v1/completions", R"({"prompt":"THROW"})").status, 500);
    EXPECT_EQ(post("/tokenize", R"({"prompt":"THROW"})").status, 500);
    EXPECT_EQ(post("/tokenize", R"({"prompt":"x"})").status, 200);
    server->stop();
    server.reset();
  }
}

TEST_F(ServerTest, ListsItsModels) {
  start();
  const Json list = json_of(get("/v1/models"));
  ASSERT_EQ(list.at("data").size(), 2U);
  EXPECT_EQ(list.at("data").at(0).at("id"), "tiny");
  EXPECT_EQ(list.at("data").at(0).at("max_model_len"), 4096);
  EXPECT_EQ(json_of(get("/v1/models/alias")).at("id"), "alias");
  const auto missing = get("/v1/models/other");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(json_of(missing).at("error").at("code"), "model_not_found");
  const auto wrong = post("/v1/completions", R"({"model":"other","prompt":"p"})");
  EXPECT_EQ(wrong.status, 404);
  EXPECT_EQ(json_of(wrong).at("error").at("param"), "model");
}

TEST_F(ServerTest, AnswersPathsAndMethodsItDoesNotKnow) {
  start();
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(get("/v1/completions").status, 405);
  EXPECT_EQ(post("/health", "").status, 405);
  EXPECT_EQ(get("/health?probe=1").status, 200);
  EXPECT_EQ(json_of(get("/version")).at("version"), "1.2.3");
  TestHttpClient client(server->port());
  const auto head = client.request("HEAD", "/health");
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.headers.at("content-length"), "0");
  EXPECT_EQ(client.request("GET", "/health").status, 200);
}

TEST_F(ServerTest, IsAliveWhileTheModelLoadsAndReadyAfterwards) {
  start(test_options(), /*with_model=*/false);
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/ready").status, 503);
  EXPECT_EQ(get("/metrics").status, 200);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"p"})").status, 503);
  server->serve(*engine, codec);
  EXPECT_EQ(get("/ready").status, 200);
  engine->break_down("the engine thread failed");
  EXPECT_EQ(get("/ready").status, 503);
  const auto health = get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_THAT(health.body, HasSubstr("the engine thread failed"));
}

TEST_F(ServerTest, AsksForTheKeyWhereOneIsSet) {
  ServerOptions options = test_options();
  options.api_keys = {"secret", "other"};
  start(options);
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/ready").status, 200);
  EXPECT_EQ(get("/version").status, 200);
  EXPECT_EQ(get("/metrics").status, 200);
  const auto refused = get("/v1/models");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(json_of(refused).at("error").at("code"), "invalid_api_key");
  TestHttpClient client(server->port());
  EXPECT_EQ(client.request("GET", "/v1/models", "", "Authorization: Bearer secret\r\n").status,
            200);
  EXPECT_EQ(client.request("GET", "/v1/models", "", "Authorization: bearer other\r\n").status, 200);
  EXPECT_EQ(client.request("GET", "/v1/models", "", "Authorization: Bearer secre\r\n").status, 401);
  EXPECT_EQ(client.request("GET", "/v1/models", "", "Authorization: Basic secret\r\n").status, 401);
}

TEST_F(ServerTest, LetsBrowsersOfAllowedOriginsIn) {
  ServerOptions options = test_options();
  options.cors_origins = {"https://app.example"};
  options.api_keys = {"secret"};
  start(options);
  TestHttpClient client(server->port());
  auto response =
      client.request("OPTIONS", "/v1/chat/completions", "", "Origin: https://app.example\r\n");
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.headers.at("access-control-allow-origin"), "https://app.example");
  EXPECT_THAT(response.headers.at("access-control-allow-headers"), HasSubstr("Authorization"));
  response = client.request("GET", "/v1/models", "", "Origin: https://app.example\r\n");
  EXPECT_EQ(response.status, 401);  // the browser may read the error
  EXPECT_EQ(response.headers.at("access-control-allow-origin"), "https://app.example");
  response = client.request("GET", "/health", "", "Origin: https://evil.example\r\n");
  EXPECT_FALSE(response.headers.contains("access-control-allow-origin"));
}

TEST_F(ServerTest, PinsARequestToTheEngineThatItsHeaderNames) {
  start();
  engine->run("x");
  TestHttpClient client(server->port());
  const std::string body = R"({"prompt":"a","max_tokens":1})";
  const auto post = [&](const std::string& header) {
    return client.request("POST", "/v1/completions", body, header);
  };
  EXPECT_EQ(post("").status, 200);
  EXPECT_EQ(engine->submitted(1).back().pinned_engine, -1);
  EXPECT_EQ(post("X-data-parallel-rank: 2\r\n").status, 200);
  EXPECT_EQ(engine->submitted(2).back().pinned_engine, 2);
  for (const char* rank : {"3", "-1", "x", "1x", "+1", "0x1", "1.0", "99999999999999999999"}) {
    const auto wrong = post("X-data-parallel-rank: " + std::string(rank) + "\r\n");
    EXPECT_EQ(wrong.status, 400) << rank;
    EXPECT_EQ(json_of(wrong).at("error").at("param"), "X-data-parallel-rank") << rank;
    EXPECT_THAT(wrong.body, HasSubstr("from 0 to 2, is '" + std::string(rank))) << rank;
  }
  EXPECT_EQ(engine->submitted(2).size(), 2U);
}

TEST_F(ServerTest, DrainsWhatRunsAndRefusesTheRest) {
  start();
  TestHttpClient client(server->port());
  const RequestId id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  engine->say(id, 'x');
  ASSERT_EQ(client.read_head().status, 200);
  EXPECT_FALSE(server->drain(Duration{0}));
  EXPECT_EQ(get("/ready").status, 503);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"p"})").status, 503);
  engine->say(id, 'y', sched::FinishReason::kLength);
  EXPECT_TRUE(server->drain(std::chrono::minutes(2)));
  EXPECT_EQ(event_json(client).at("choices").at(0).at("text"), "x");
  EXPECT_EQ(event_json(client).at("choices").at(0).at("text"), "y");
  EXPECT_EQ(client.read_event(), "[DONE]");
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_TRUE(engine->cancelled(0).empty());
}

TEST_F(ServerTest, DrainsUntilASlowClientHasItsAnswer) {
  ServerOptions options = test_options();
  options.http.max_pending_output_bytes = std::size_t{1} << 40;
  start(options);
  TestHttpClient client(server->port());
  client.limit_receive_buffer(1 << 18);
  const RequestId id =
      open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true,"logprobs":20})");
  for (int i = 0; i < 12; ++i)
    engine->say(bulky_output(id, 800));  // together more than the sockets hold
  engine->say(id, 'z', sched::FinishReason::kLength);
  std::thread reader([&] {
    EXPECT_EQ(client.read_head().status, 200);
    std::optional<std::string> last;
    while (auto event = client.read_event())
      last = std::move(event);
    EXPECT_EQ(last, "[DONE]");
  });
  EXPECT_TRUE(server->drain(std::chrono::seconds(20)));
  server->stop();
  reader.join();
}

TEST_F(ServerTest, StopCancelsWhatRuns) {
  start();
  TestHttpClient client(server->port());
  const RequestId id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  server->stop();
  EXPECT_THAT(engine->cancelled(1), ::testing::ElementsAre(id));
  engine->say(id, 'x');  // nobody listens any more
  EXPECT_TRUE(client.closed_by_server());
}

TEST_F(ServerTest, CountsInItsMetrics) {
  start();
  engine->run("z");
  ASSERT_EQ(post("/v1/completions", R"({"prompt":"p","max_tokens":3,"odd":1,"odder":null})").status,
            200);
  ASSERT_EQ(post("/v1/completions", R"({"prompt":5})").status, 400);
  cluster::EngineSnapshot snapshot = engine->snapshot();
  snapshot.step_times = policy::StepTimeCoefficients{{5, 0.25, 0.5}, {0, 0, 2}};
  engine->set_snapshot(snapshot);
  const auto response = get("/metrics");
  EXPECT_THAT(response.headers.at("content-type"), HasSubstr("version=0.0.4"));
  for (
      const std::string_view line :
      {R"(vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"} 1)",
       R"(vllm:time_to_first_token_seconds_count{engine="0",model_name="tiny"} 1)",
       R"(vllm:inter_token_latency_seconds_count{engine="0",model_name="tiny"} 2)",
       R"(vllm:time_per_output_token_seconds_count{engine="0",model_name="tiny"} 2)",
       R"(gimbal:unknown_request_fields_total{engine="0",model_name="tiny"} 1)",
       R"(gimbal:requests_refused_total{engine="0",model_name="tiny",reason="invalid"} 1)",
       R"(vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25)",
       R"(gimbal:step_model_attention_seconds{engine="0",model_name="tiny"} 0.005)",
       R"(gimbal:step_model_attention_seconds_per_prefill_token{engine="0",model_name="tiny"} 0.00025)",
       R"(gimbal:step_model_service_seconds_per_expert{engine="0",model_name="tiny"} 0.002)",
       R"(vllm:num_requests_running{engine="0",model_name="tiny"} 0)"}) {
    EXPECT_NE(response.body.find(line), std::string::npos) << line;
  }
}

TEST_F(ServerTest, ServesManyStreamsOnSeveralLoops) {
  ServerOptions options = test_options();
  options.http.io_threads = 3;
  start(options);
  engine->run("abcdefghij");
  std::vector<std::unique_ptr<TestHttpClient>> clients;
  for (int i = 0; i < 60; ++i) {
    clients.push_back(std::make_unique<TestHttpClient>(server->port()));
    clients.back()->send_request("POST", "/v1/completions",
                                 R"({"prompt":"p","stream":true,"max_tokens":40})");
  }
  for (const auto& client : clients) {
    ASSERT_EQ(client->read_head().status, 200);
    std::string text;
    while (const auto event = client->read_event()) {
      if (*event == "[DONE]") break;
      text += parse_json(*event).value().at("choices").at(0).at("text").get<std::string>();
    }
    EXPECT_EQ(text, "abcdefghijabcdefghijabcdefghijabcdefghij");
  }
}

}  // namespace
}  // namespace gimbal::server
