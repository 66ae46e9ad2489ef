#include "loadgen/target_url.h"

#include <gtest/gtest.h>

#include "loadgen/tls_client.h"

namespace gimbal::loadgen {
namespace {

TEST(TargetUrl, TakesUrlsApart) {
  const auto full = parse_target_url("http://localhost:8000/some/base/");
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(full->host, "localhost");
  EXPECT_EQ(full->port, 8000);
  EXPECT_EQ(full->base_path, "/some/base");
  EXPECT_EQ(full->authority(), "localhost:8000");
  const auto bare = parse_target_url("http://10.0.0.1");
  ASSERT_TRUE(bare.ok());
  EXPECT_EQ(bare->port, 80);
  EXPECT_EQ(bare->base_path, "");
  const auto v6 = parse_target_url("http://[::1]:9/");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->authority(), "[::1]:9");
}

TEST(TargetUrl, ReadsHttps) {
  const auto bare = parse_target_url("https://example.com", {.insecure = true});
  ASSERT_TRUE(bare.ok()) << bare.error().message;
  EXPECT_EQ(bare->port, 443);
  EXPECT_NE(bare->tls, nullptr);
  EXPECT_EQ(parse_target_url("https://[::1]:8443/v", {.insecure = true})->port, 8443);
  EXPECT_EQ(parse_target_url("http://x")->tls, nullptr);
  EXPECT_FALSE(parse_target_url("http://x", {.insecure = true}).ok());
  const auto missing = parse_target_url("https://x", {.cacert = "/nonexistent/ca.pem"});
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("/nonexistent/ca.pem"), std::string::npos);
}

TEST(TargetUrl, RefusesWhatItCannotReach) {
  for (const char* bad :
       {"", "localhost:8000", "ftp://x", "http://", "http://:80", "http://x:", "http://x:0",
        "http://x:65536", "http://x:8o", "http://x:-1", "http://a@b", "http://x/?q", "http://x#f",
        "http://[::1", "http://[::1]8", "http://[::1]:", "http://x y", "http://x\r\nHost: y"}) {
    EXPECT_FALSE(parse_target_url(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace gimbal::loadgen
