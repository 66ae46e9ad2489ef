#include "apps/server_process.h"

#include <gtest/gtest.h>

namespace gimbal::apps {
namespace {

TEST(ServerProcessTest, FindsWhereAServerServes) {
  const std::string line =
      "2026-01-01T00:00:00.000 info    serving demo on http://127.0.0.1:4711\n";
  EXPECT_EQ(serving_url("loading\n" + line + "Try:\n"), "http://127.0.0.1:4711");
  EXPECT_EQ(serving_url(""), "");
  EXPECT_EQ(serving_url("see docs on http://example.com\n"), "");
  EXPECT_EQ(serving_url(line.substr(0, line.size() - 1)), "") << "the line may go on";
}

}  // namespace
}  // namespace gimbal::apps
