#include "server/http_server.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "server/test_http_client.h"

namespace gimbal::server {
namespace {

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
    return {.status = status, .body = std::string(reason)};
  }

  static constexpr std::size_t kLargeBytes = 16'000'000;  // more than sockets hold
  std::atomic<int> waiting{0};
  std::atomic<HttpExchange*> kept{nullptr};  // of the last request to /wait

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
    const TimePoint limit = clock.now() + std::chrono::seconds(20);
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

TEST_F(HttpServerTest, KeepsAConnectionForManyRequests) {
  start();
  TestHttpClient client(server->port());
  for (int i = 0; i < 50; ++i) {
    const auto response =
        client.request("POST", "/p", std::string(static_cast<std::size_t>(i), 'x'));
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, fmt::format("/p {}", i));
  }
  EXPECT_EQ(server->connections(), 1U);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  TestHttpClient client(server->port());
  std::string bytes;
  for (int i = 0; i < 200; ++i)
    bytes += fmt::format("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", i);
  client.send(bytes);
  for (int i = 0; i < 200; ++i)
    EXPECT_EQ(client.read_response().body, fmt::format("/{} 0", i));
}

TEST_F(HttpServerTest, ClosesWhereTheClientAsksForIt) {
  start();
  TestHttpClient client(server->port());
  client.send("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
  const auto response = client.read_response();
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(client.closed_by_server());
}

TEST_F(HttpServerTest, StreamsChunksAndPlainBytesToOldClients) {
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/stream");
  EXPECT_EQ(client.read_head().headers.at("x-extra"), "1");
  for (const char* event : {"0", "1", "2"})
    EXPECT_EQ(client.read_event(), event);
  EXPECT_EQ(client.read_event(), std::nullopt);
  EXPECT_EQ(client.request("GET", "/a").body, "/a 0");
  TestHttpClient old(server->port());
  old.send("GET /stream HTTP/1.0\r\n\r\n");
  const auto head = old.read_head();
  EXPECT_FALSE(head.headers.contains("transfer-encoding"));
  EXPECT_EQ(head.headers.at("connection"), "close");
  EXPECT_TRUE(old.closed_by_server());
}

TEST_F(HttpServerTest, LetsTheClientReadThatItsBodyIsTooLarge) {
  options.max_body_bytes = 100'000;
  start();
  {
    TestHttpClient client(server->port());  // sends everything before it reads
    const auto response = client.request("POST", "/p", std::string(8'000'000, 'x'));
    EXPECT_EQ(response.status, 413);
    EXPECT_EQ(response.headers.at("connection"), "close");
  }
  TestHttpClient chunked(server->port());
  chunked.send("POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7a1200\r\n");
  chunked.send(std::string(8'000'000, 'x'));
  EXPECT_EQ(chunked.read_response().status, 413);
  TestHttpClient whole(server->port());
  EXPECT_EQ(whole.request("POST", "/p", std::string(100'000, 'x')).body, "/p 100000");
}

TEST_F(HttpServerTest, DropsOnlySoMuchOfABodyThatIsTooLarge) {
  options.max_body_bytes = 1'000;
  options.max_dropped_bytes = 1'000'000;
  start();
  TestHttpClient client(server->port());
  client.send("POST /p HTTP/1.1\r\nContent-Length: 100000000000\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 413);
  const std::string piece(100'000, 'x');
  EXPECT_THROW(
      {
        for (int i = 0; i < 2'000; ++i)
          client.send(piece);
      },
      std::runtime_error);
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST_F(HttpServerTest, SaysContinueToWhoWaitsForIt) {
  start();
  TestHttpClient client(server->port());
  client.send("POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(client.read_head().status, 100);
  client.send("hello");
  EXPECT_EQ(client.read_response().body, "/p 5");
}

TEST_F(HttpServerTest, BoundsTheBodiesThatAreBeingReceived) {
  options.max_receiving_bytes = 10'000;
  start();
  TestHttpClient first(server->port());
  first.send("POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9000\r\n\r\n");
  ASSERT_EQ(first.read_head().status, 100);
  TestHttpClient second(server->port());
  EXPECT_EQ(second.request("POST", "/p", std::string(500, 'x')).status, 200);
  second.send("POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9000\r\n\r\n");
  EXPECT_EQ(second.read_response().status, 503);
  first.send(std::string(9'000, 'x'));
  EXPECT_EQ(first.read_response().body, "/p 9000");
  EXPECT_EQ(first.request("POST", "/p", std::string(9'000, 'x')).status, 200);
}

TEST_F(HttpServerTest, AnswersWhatIsNoHttp) {
  start();
  for (const char* bytes : {"hello there\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n"}) {
    TestHttpClient client(server->port());
    client.send(bytes);
    EXPECT_EQ(client.read_response().status, 400);
    EXPECT_TRUE(client.closed_by_server());
  }
  TestHttpClient client(server->port());
  client.send("GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x'));
  EXPECT_EQ(client.read_response().status, 431);
}

TEST_F(HttpServerTest, EndsJobsOfClientsThatLeave) {
  start();
  {
    TestHttpClient client(server->port());
    client.send_request("GET", "/wait");
    ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
    client.send("GET /next HTTP/1.1\r\n\r\n");  // sent ahead: it waits for its turn
  }
  EXPECT_TRUE(eventually([&] { return handler.waiting == 0 && server->connections() == 0; }));
}

TEST_F(HttpServerTest, TellsAClientThatEndsItsSideThatThisCancels) {
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/wait");
  client.end_sending();
  const auto response = client.read_response();
  EXPECT_EQ(response.status, 499);
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_TRUE(eventually([&] { return handler.waiting == 0 && server->connections() == 0; }));
}

TEST_F(HttpServerTest, EndsTheStreamOfAClientThatEndsItsSide) {
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/open-stream");
  ASSERT_EQ(client.read_head().status, 200);
  ASSERT_EQ(client.read_event(), "begun");
  client.end_sending();
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_TRUE(eventually([&] { return handler.waiting == 0 && server->connections() == 0; }));
}

TEST_F(HttpServerTest, CompletesAnswersToAClientThatEndsItsSideBehindItsRequests) {
  start();
  TestHttpClient small(server->port());
  small.send("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
  small.end_sending();
  EXPECT_EQ(small.read_response().body, "/a 0");
  EXPECT_EQ(small.read_response().body, "/b 0");
  EXPECT_TRUE(small.closed_by_server());
  TestHttpClient large(server->port());
  large.send("GET /large HTTP/1.0\r\n\r\n");
  large.end_sending();
  EXPECT_EQ(large.read_response().body.size(), EchoHandler::kLargeBytes);
  EXPECT_TRUE(large.closed_by_server());
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST_F(HttpServerTest, NoticesClientsThatLeaveAfterTheyHaveSentFarAhead) {
  options.max_pipelined_bytes = 20'000;
  start();
  for (const bool resets : {false, true}) {
    TestHttpClient client(server->port());
    client.send_request("GET", "/wait");
    ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
    client.send(std::string(60'000, 'x'));
    if (resets) {
      client.reset();
    } else {
      client.close();
    }
    EXPECT_TRUE(eventually([&] { return handler.waiting == 0 && server->connections() == 0; }));
  }
}

TEST_F(HttpServerTest, ServesAllThatWasSentAheadOnceTheAnswerIsComplete) {
  options.max_pipelined_bytes = 20'000;
  start();
  TestHttpClient client(server->port());
  std::string bytes = "GET /wait HTTP/1.1\r\n\r\n";
  for (int i = 0; i < 2'000; ++i)
    bytes += fmt::format("GET /{} HTTP/1.1\r\n\r\n", i);
  client.send(bytes);
  ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  server->post(0, [this] { handler.kept.load()->respond({.body = "late"}); });
  EXPECT_EQ(client.read_response().body, "late");
  for (int i = 0; i < 2'000; ++i)
    ASSERT_EQ(client.read_response().body, fmt::format("/{} 0", i));
}

TEST_F(HttpServerTest, StopsWithAClientThatHasSentFarAhead) {
  options.max_pipelined_bytes = 20'000;
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/wait");
  client.send(std::string(60'000, 'x'));
  ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  EXPECT_EQ(server->connections(), 1U);
  server->stop();
  EXPECT_EQ(handler.waiting, 0);
}

TEST_F(HttpServerTest, SendsALargeEventWhateverTheBoundOnSlowClients) {
  options.max_pending_output_bytes = 100'000;
  start();
  for (const char* path : {"/pieces/one", "/pieces/allowed"}) {
    TestHttpClient client(server->port());
    client.send_request("GET", path);
    ASSERT_EQ(client.read_head().status, 200);
    std::size_t bytes = 0;
    int small = 0;
    while (const auto event = client.read_event()) {
      bytes += *event == "small" ? 0 : event->size();
      small += *event == "small" ? 1 : 0;
    }
    EXPECT_EQ(small, bytes / EchoHandler::kLargeBytes) << path;
    EXPECT_EQ(small, std::string_view(path).ends_with("one") ? 1 : 4);
  }
}

TEST_F(HttpServerTest, ClosesClientsThatLagMoreThanOneLargeEventBehind) {
  options.max_pending_output_bytes = 100'000;
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/pieces/four");
  EXPECT_THROW(static_cast<void>(client.read_response()), std::runtime_error);
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

// Each with a server of its own on which only the bound in question is short: a busy machine may
// take its time between any two calls.
TEST_F(HttpServerTest, ClosesConnectionsThatWaitTooLong) {
  options.idle_time = std::chrono::milliseconds(50);
  start();
  TestHttpClient idle(server->port());
  EXPECT_TRUE(idle.closed_by_server());
}

TEST_F(HttpServerTest, RefusesHeadersAndBodiesThatTakeTooLong) {
  options.header_time = std::chrono::milliseconds(50);
  start();
  TestHttpClient header(server->port());
  header.send("GET / HT");
  EXPECT_EQ(header.read_response().status, 408);
  options.header_time = HttpOptions().header_time;
  options.body_time = std::chrono::milliseconds(50);
  options.linger_time = std::chrono::milliseconds(50);
  start();
  TestHttpClient body(server->port());
  body.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(body.read_response().status, 408);
  // It lingers for a while, but not longer, for a client that does not close.
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST_F(HttpServerTest, LetsARequestThatIsBeingAnsweredTakeItsTime) {
  options.idle_time = std::chrono::milliseconds(500);
  start();
  TestHttpClient waiting(server->port());
  waiting.send_request("GET", "/wait");
  ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  TestHttpClient idle(server->port());
  EXPECT_TRUE(idle.closed_by_server());  // as long as the other has taken already
  EXPECT_EQ(handler.waiting, 1);
}

TEST_F(HttpServerTest, RefusesConnectionsBeyondTheBound) {
  options.max_connections = 2;
  start();
  TestHttpClient first(server->port());
  auto second = std::make_unique<TestHttpClient>(server->port());
  ASSERT_EQ(first.request("GET", "/a").status, 200);
  ASSERT_EQ(second->request("GET", "/a").status, 200);
  TestHttpClient third(server->port());
  EXPECT_EQ(third.read_response().status, 503);
  second.reset();
  ASSERT_TRUE(eventually([&] { return server->connections() == 1; }));
  TestHttpClient fourth(server->port());
  EXPECT_EQ(fourth.request("GET", "/a").status, 200);
}

TEST_F(HttpServerTest, ClosesIdleConnectionsAndThoseThatBecomeIdle) {
  start();
  TestHttpClient idle(server->port());
  ASSERT_EQ(idle.request("GET", "/a").status, 200);
  TestHttpClient late(server->port());
  late.send("POST /p HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  ASSERT_EQ(late.read_head().status, 100);
  server->close_idle_connections();
  EXPECT_TRUE(idle.closed_by_server());
  late.send("ab");
  EXPECT_EQ(late.read_response().headers.at("connection"), "close");
  EXPECT_TRUE(late.closed_by_server());
}

TEST_F(HttpServerTest, NamesAnAddressThatItCannotUse) {
  start();
  HttpOptions taken = options;
  taken.port = server->port();
  HttpServer second(taken, handler);
  const auto started = second.start();
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message.find(std::to_string(taken.port)), std::string::npos);
}

// A key and a certificate that the key itself has signed, in one PEM file.
class Certificate {
 public:
  Certificate()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("gimbal_http_server_test_{}.pem", ::getpid())) {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    std::FILE* file = std::fopen(path_.c_str(), "w");
    PEM_write_X509(file, certificate);
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  ~Certificate() { std::filesystem::remove(path_); }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST_F(HttpServerTest, ServesTls) {
  const Certificate certificate;
  options.ssl_certfile = certificate.path();
  options.max_body_bytes = 3'000'000;
  start();
  TestHttpClient client(server->port(), /*tls=*/true);
  EXPECT_EQ(client.request("POST", "/p", std::string(2'000'000, 'x')).body, "/p 2000000");
  client.send_request("GET", "/stream");
  EXPECT_EQ(client.read_head().status, 200);
  for (const char* event : {"0", "1", "2"})
    EXPECT_EQ(client.read_event(), event);
  EXPECT_EQ(client.read_event(), std::nullopt);
  EXPECT_EQ(client.request("GET", "/a").status, 200);
  TestHttpClient plain(server->port());
  plain.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(plain.closed_by_server());
  EXPECT_EQ(client.request("GET", "/a").status, 200);
}

TEST_F(HttpServerTest, EndsJobsOfTlsClientsThatLeave) {
  const Certificate certificate;
  options.ssl_certfile = certificate.path();
  start();
  {
    TestHttpClient client(server->port(), /*tls=*/true);
    client.send_request("GET", "/wait");
    ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return handler.waiting == 0; }));
}

TEST_F(HttpServerTest, NamesACertificateThatItCannotUse) {
  options.ssl_certfile = "/nonexistent/certificate.pem";
  HttpServer broken(options, handler);
  const auto started = broken.start();
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message.find("/nonexistent/certificate.pem"), std::string::npos);
}

}  // namespace
}  // namespace gimbal::server
