#include "server/http_server.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "base/temporary_folder.h"
#include "server/http_server_fixture.h"
#include "server/test_http_client.h"

namespace gimbal::server {
namespace {

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
  // What is only announced takes no memory: another may send as much.
  TestHttpClient second(server->port());
  EXPECT_EQ(second.request("POST", "/p", std::string(9'000, 'x')).status, 200);
  first.send(std::string(8'000, 'x'));
  EXPECT_TRUE(eventually([&] {  // once they have been read
    TestHttpClient third(server->port());
    third.send("POST /p HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + std::string(8'000, 'x'));
    third.end_sending();
    return third.read_response().status == 503;
  }));
  first.send(std::string(1'000, 'x'));
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
  Certificate() {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    std::FILE* file = std::fopen(path().c_str(), "w");
    PEM_write_X509(file, certificate);
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  [[nodiscard]] std::string path() const { return folder_.path("certificate.pem"); }

 private:
  TemporaryFolder folder_;
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
