#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "server/fake_engine.h"
#include "server/server.h"
#include "server/test_http_client.h"

namespace gimbal::server {

// Of a server on a free port that serves "tiny", also known as "alias", every token at once.
inline ServerOptions test_options() {
  ServerOptions options;
  options.http.port = 0;
  options.served_model_names = {"tiny", "alias"};
  options.version = "1.2.3";
  options.stream_interval = Duration::zero();
  return options;
}

// A token that makes a large chunk: 0.6 KB, and as much for each of `prompt_tokens` before it.
inline cluster::TokenOutput bulky_output(RequestId id, int prompt_tokens = 0) {
  cluster::TokenOutput output{.request = id, .token = 'x'};
  output.logprobs = std::make_unique<sched::TokenLogprobs>(sched::TokenLogprobs{.token = 'x'});
  for (TokenId token = 0; token < 50; ++token)
    output.logprobs->top.emplace_back(token, -1.5F);
  for (int i = 0; i < prompt_tokens; ++i)
    output.prompt_logprobs.push_back(*output.logprobs);
  return output;
}

// A server on a free port, a fake engine behind it.
class ServerTest : public ::testing::Test {
 protected:
  void start(ServerOptions options = test_options(), bool with_model = true) {
    server.emplace(std::move(options), clock);
    engine.emplace(server->sink());
    const auto started = server->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
    if (with_model) server->serve(*engine, codec);
  }
  void TearDown() override {
    if (server) server->stop();  // before the engine goes
    engine.reset();              // its thread tells the server's router what it generates
  }

  [[nodiscard]] TestHttpClient::Response post(std::string_view path, std::string_view body) {
    TestHttpClient client(server->port());
    return client.request("POST", path, body);
  }
  [[nodiscard]] TestHttpClient::Response get(std::string_view path) {
    TestHttpClient client(server->port());
    return client.request("GET", path);
  }
  static Json json_of(const TestHttpClient::Response& response) {
    auto parsed = parse_json(response.body);
    return parsed.ok() ? parsed.value() : Json("not JSON: " + response.body);
  }
  // Opens a stream and says which engine request it made.
  RequestId open_stream(TestHttpClient& client, std::string_view path, std::string_view body) {
    const std::size_t before = engine->submitted(0).size();
    client.send_request("POST", path, body);
    return engine->submitted(before + 1).back().id;
  }

  // Generates for a client that does not read, until its request is cancelled, but no more than 50
  // MB. The server has taken up each piece before the next is said.
  void flood(RequestId id) {
    for (int piece = 0; piece < 100 && engine->cancelled(0).empty(); ++piece) {
      engine->say(bulky_output(id, 800));
      EXPECT_EQ(get("/health").status, 200);  // behind the piece on the server's one loop
    }
  }

  SteadyClock clock;
  ByteCodec codec;
  std::optional<FakeEngine> engine;
  std::optional<Server> server;
};

// The next event of a stream as JSON; a string where it is none.
inline Json event_json(TestHttpClient& client) {
  const auto event = client.read_event();
  if (!event) return Json("the stream is over");
  auto parsed = parse_json(*event);
  return parsed.ok() ? parsed.value() : Json(*event);
}

}  // namespace gimbal::server
