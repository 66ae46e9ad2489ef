#include "loadgen/tls_client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "loadgen/http_get.h"
#include "loadgen/load_generator.h"
#include "loadgen/scripted_server.h"
#include "loadgen/test_certificate.h"

namespace gimbal::loadgen {
namespace {

using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(20);

TargetUrl secure_url(const ScriptedServer& server, const TlsOptions& options,
                     const std::string& host = "127.0.0.1") {
  auto url = parse_target_url(fmt::format("https://{}:{}", host, server.port()), options);
  EXPECT_TRUE(url.ok()) << url.error().message;
  return *url;
}

workload::Workload four_answers(const std::string& user = "") {
  workload::Workload workload;
  workload::RequestSpec request;
  request.prompt = {{.identity = 7, .tokens = 2000}};
  request.output_tokens = 5;
  request.user = user;
  workload.requests.assign(4, request);
  return workload;
}

TEST(TlsClient, TalksToAServerThatItTrusts) {
  const TestCertificate certificate("IP:127.0.0.1");
  const ScriptedServer server({.certificate = certificate.path()});
  const TargetUrl url = secure_url(server, {.cacert = certificate.path()});
  const auto reply = http_get(url, "/v1/models", "", kPatience);
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  EXPECT_THAT(reply->body, HasSubstr("scripted"));
  const auto result = run_load(four_answers(), url, {.max_concurrency = 2, .keep_text = true});
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->records.size(), 4U);
  for (const auto& record : result->records) {
    EXPECT_EQ(record.error, "");
    EXPECT_EQ(record.text, "xxxxx");
  }
  EXPECT_EQ(server.counters().connections, 3);  // the load's two are used again
}

TEST(TlsClient, RefusesACertificateThatNobodyTrustedHasSigned) {
  const TestCertificate certificate("IP:127.0.0.1");
  const ScriptedServer server({.certificate = certificate.path()});
  const TestCertificate other("IP:127.0.0.1");
  for (const TlsOptions& options : {TlsOptions{}, TlsOptions{.cacert = other.path()}}) {
    const TargetUrl url = secure_url(server, options);
    const auto reply = http_get(url, "/v1/models", "", kPatience);
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(reply.error().message,
                HasSubstr("the certificate of 127.0.0.1 is not accepted: self-signed certificate"));
    const auto result = run_load(four_answers(), url, {});
    ASSERT_TRUE(result.ok());
    EXPECT_THAT(result->records.at(3).error, HasSubstr("self-signed certificate"));
  }
  EXPECT_EQ(server.counters().requests, 0);
}

TEST(TlsClient, RefusesACertificateForAnotherHost) {
  for (const char* name : {"IP:127.0.0.2", "DNS:127.0.0.1", "DNS:example.com"}) {
    const TestCertificate certificate(name);
    const ScriptedServer server({.certificate = certificate.path()});
    const TlsOptions trusting{.cacert = certificate.path()};
    const auto reply = http_get(secure_url(server, trusting), "/v1/models", "", kPatience);
    ASSERT_FALSE(reply.ok()) << name;
    EXPECT_THAT(reply.error().message, HasSubstr("IP address mismatch"));
    const auto by_name =
        http_get(secure_url(server, trusting, "localhost"), "/v1/models", "", kPatience);
    ASSERT_FALSE(by_name.ok()) << name;
    EXPECT_THAT(by_name.error().message, HasSubstr("ostname mismatch"));
  }
}

TEST(TlsClient, TakesTheNameOfTheUrl) {
  const TestCertificate certificate("DNS:localhost");
  const ScriptedServer server({.certificate = certificate.path()});
  const auto reply = http_get(secure_url(server, {.cacert = certificate.path()}, "localhost"),
                              "/v1/models", "", kPatience);
  EXPECT_TRUE(reply.ok()) << reply.error().message;
}

TEST(TlsClient, TakesAnyCertificateWhereItIsToldTo) {
  const TestCertificate certificate("DNS:example.com");
  const ScriptedServer server({.certificate = certificate.path()});
  const auto reply = http_get(secure_url(server, {.insecure = true}), "/v1/models", "", kPatience);
  EXPECT_TRUE(reply.ok()) << reply.error().message;
}

TEST(TlsClient, SaysThatAServerSpeaksNoTls) {
  const ScriptedServer server;
  const auto reply = http_get(secure_url(server, {.insecure = true}), "/v1/models", "",
                              std::chrono::milliseconds(100));
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
}

TEST(TlsClient, TellsOfConnectionsThatBreak) {
  const TestCertificate certificate("IP:127.0.0.1");
  const ScriptedServer server({.certificate = certificate.path()});
  const auto result =
      run_load(four_answers("broken"), secure_url(server, {.cacert = certificate.path()}), {});
  ASSERT_TRUE(result.ok());
  for (const auto& record : result->records)
    EXPECT_THAT(record.error, HasSubstr("within an answer"));
}

TEST(TlsClient, OpensAKeptConnectionAnewThatWasClosed) {
  const TestCertificate certificate("IP:127.0.0.1");
  const ScriptedServer server({.keep_alive = false, .certificate = certificate.path()});
  const auto result = run_load(four_answers(), secure_url(server, {.cacert = certificate.path()}),
                               {.max_concurrency = 1});
  ASSERT_TRUE(result.ok());
  for (const auto& record : result->records)
    EXPECT_EQ(record.error, "");
  EXPECT_EQ(server.counters().connections, 4);
}

}  // namespace
}  // namespace gimbal::loadgen
