// Clients that leave, half leave, send far ahead, read slowly or take their time.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>

#include "server/http_server_fixture.h"
#include "server/test_http_client.h"

namespace gimbal::server {
namespace {

using HttpClientsTest = HttpServerTest;

TEST_F(HttpClientsTest, TellsAClientThatEndsItsSideThatThisCancels) {
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

TEST_F(HttpClientsTest, EndsTheStreamOfAClientThatEndsItsSide) {
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/open-stream");
  ASSERT_EQ(client.read_head().status, 200);
  ASSERT_EQ(client.read_event(), "begun");
  client.end_sending();
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_TRUE(eventually([&] { return handler.waiting == 0 && server->connections() == 0; }));
}

TEST_F(HttpClientsTest, CompletesAnswersToAClientThatEndsItsSideBehindItsRequests) {
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

TEST_F(HttpClientsTest, NoticesClientsThatLeaveAfterTheyHaveSentFarAhead) {
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

TEST_F(HttpClientsTest, ServesAllThatWasSentAheadOnceTheAnswerIsComplete) {
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

TEST_F(HttpClientsTest, TakesNoRequestWhileTooManyAnswersWaitForTheClient) {
  options.max_pending_output_bytes = 100'000;
  start();
  TestHttpClient client(server->port());
  constexpr int kRequests = 20;
  for (int i = 0; i < kRequests; ++i)
    client.send("GET /large HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(eventually([&] { return handler.large >= 1; }));
  // The loop serves others meanwhile, and has seen what this one sent.
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(TestHttpClient(server->port()).request("GET", "/", {}).status, 200);
  EXPECT_EQ(handler.large, 1);
  for (int i = 0; i < kRequests; ++i)
    ASSERT_EQ(client.read_response().body.size(), EchoHandler::kLargeBytes);
  EXPECT_EQ(handler.large, kRequests);
}

TEST_F(HttpClientsTest, DoesNotHearAJobWhoseClientHasLeft) {
  options.max_pending_output_bytes = 4 * EchoHandler::kLargeBytes;
  int late = 0;
  handler.on_refuse = [&] {
    server->post(0, [&] {  // runs between the server's own answer and the end of the job
      late = handler.waiting;
      handler.kept.load()->respond({.body = "late"});
    });
  };
  start();
  TestHttpClient client(server->port());
  client.send(
      "GET /large HTTP/1.1\r\n\r\nGET /wait HTTP/1.1\r\n\r\n");  // unread: it is still written
  ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  client.end_sending();
  ASSERT_TRUE(eventually([&] { return handler.waiting == 0; }));
  EXPECT_EQ(client.read_response().body.size(), EchoHandler::kLargeBytes);
  EXPECT_EQ(client.read_response().status, 499);
  EXPECT_TRUE(client.closed_by_server());
  server->stop();
  EXPECT_EQ(late, 1);
}

TEST_F(HttpClientsTest, StopsWithAClientThatHasSentFarAhead) {
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

TEST_F(HttpClientsTest, SendsALargeEventWhateverTheBoundOnSlowClients) {
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

TEST_F(HttpClientsTest, ClosesClientsThatLagMoreThanOneLargeEventBehind) {
  options.max_pending_output_bytes = 100'000;
  start();
  TestHttpClient client(server->port());
  client.send_request("GET", "/pieces/four");
  EXPECT_THROW(static_cast<void>(client.read_response()), std::runtime_error);
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

// Each with a server of its own on which only the bound in question is short: a busy machine may
// take its time between any two calls.
TEST_F(HttpClientsTest, ClosesConnectionsThatWaitTooLong) {
  options.idle_time = std::chrono::milliseconds(50);
  start();
  TestHttpClient idle(server->port());
  EXPECT_TRUE(idle.closed_by_server());
}

TEST_F(HttpClientsTest, RefusesHeadersAndBodiesThatTakeTooLong) {
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

TEST_F(HttpClientsTest, LetsARequestThatIsBeingAnsweredTakeItsTime) {
  options.idle_time = std::chrono::milliseconds(500);
  start();
  TestHttpClient waiting(server->port());
  waiting.send_request("GET", "/wait");
  ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  TestHttpClient idle(server->port());
  EXPECT_TRUE(idle.closed_by_server());  // as long as the other has taken already
  EXPECT_EQ(handler.waiting, 1);
}

TEST_F(HttpClientsTest, EndsJobsOfClientsThatLeave) {
  start();
  {
    TestHttpClient client(server->port());
    client.send_request("GET", "/wait");
    ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
    client.send("GET /next HTTP/1.1\r\n\r\n");  // sent ahead: it waits for its turn
  }
  EXPECT_TRUE(eventually([&] { return handler.waiting == 0 && server->connections() == 0; }));
}

}  // namespace
}  // namespace gimbal::server
