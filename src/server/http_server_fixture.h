#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/clock.h"
#include "server/http_server.h"
#include "server/test_http_client.h"

namespace gimbal::server {

struct KeptJob final : HttpJob {
  explicit KeptJob(std::atomic<int>& counter) : alive(counter) { ++alive; }
  ~KeptJob() override { --alive; }
  std::atomic<int>& alive;
};

// Answers with the method's path and the body's size; keeps requests to /wait.
class EchoHandler final : public HttpHandler {
 public:
  std::unique_ptr<HttpJob> handle(HttpRequest request, HttpExchange& exchange) override {
    if (request.path == "/wait") {
      kept = &exchange;
      return std::make_unique<KeptJob>(waiting);
    }
    if (request.path == "/stream") {
      exchange.start_stream("X-Extra: 1\r\n");
      for (int i = 0; i < 3; ++i) {
        exchange.stream_buffer() += fmt::format("data: {}\n\n", i);
        exchange.flush();
      }
      exchange.end_stream();
      return nullptr;
    }
    if (request.path == "/open-stream") {
      exchange.start_stream({});
      exchange.stream_buffer() += "data: begun\n\n";
      exchange.flush();
      return std::make_unique<KeptJob>(waiting);
    }
    if (request.path == "/large") {
      ++large;
      exchange.respond({.body = std::string(kLargeBytes, 'x')});
      return nullptr;
    }
    if (request.path.starts_with("/pieces/")) {
      send_pieces(request.path, exchange);
      return nullptr;
    }
    exchange.respond({.body = fmt::format("{} {}", request.path, request.body.size())});
    return nullptr;
  }
  HttpResponse refuse(int status, std::string_view reason) override {
    if (on_refuse) on_refuse();
    return {.status = status, .body = std::string(reason)};
  }

  static constexpr std::size_t kLargeBytes = 16'000'000;  // more than sockets hold
  std::atomic<int> waiting{0};
  std::atomic<int> large{0};                 // requests to /large
  std::atomic<HttpExchange*> kept{nullptr};  // of the last request to /wait
  std::function<void()> on_refuse;           // before a refusal is answered

 private:
  // One large event; or four, each of which may wait; or four that may not.
  static void send_pieces(std::string_view path, HttpExchange& exchange) {
    exchange.start_stream({});
    for (int piece = path.ends_with("one") ? 3 : 0; piece < 4; ++piece) {
      exchange.stream_buffer() += "data: " + std::string(kLargeBytes, 'x') + "\n\n";
      if (path.ends_with("allowed")) exchange.allow_backlog(exchange.stream_buffer().size());
      exchange.flush();
      exchange.stream_buffer() += "data: small\n\n";
      exchange.flush();
    }
    exchange.end_stream();
  }
};

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() { options.port = 0; }
  void start() {
    server.emplace(options, handler);
    const auto started = server->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }
  // Waits for a state that the server reaches on its own.
  template <class Condition>
  static bool eventually(Condition condition) {
    const SteadyClock clock;
    const TimePoint limit = clock.now() + std::chrono::minutes(2);
    while (!condition()) {
      if (clock.now() > limit) return false;
      std::this_thread::yield();
    }
    return true;
  }

  HttpOptions options;
  EchoHandler handler;
  std::optional<HttpServer> server;
};

}  // namespace gimbal::server
