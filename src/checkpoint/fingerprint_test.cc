#include "checkpoint/fingerprint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/temporary_folder.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;

class FingerprintTest : public ::testing::Test {
 protected:
  FingerprintTest() {
    write("config.json", "{}");
    write("a.safetensors", "first");
    write("b.safetensors", "second");
  }

  void write(const std::string& name, const std::string& text) { folder_.write(name, text); }
  std::uint64_t now() {
    const auto hash = fingerprint(folder_.path());
    EXPECT_TRUE(hash.ok());
    return *hash;
  }

  TemporaryFolder folder_;
};

TEST_F(FingerprintTest, FollowsWhatMakesTheModel) {
  const std::uint64_t first = now();
  write("README.md", "of no account");
  EXPECT_EQ(now(), first);
  write("b.safetensors", "SECOND");
  EXPECT_NE(now(), first);
  write("b.safetensors", "second");
  EXPECT_EQ(now(), first);
  write("config.json", R"({"a": 1})");
  EXPECT_NE(now(), first);
  write("config.json", "{}");
  fs::rename(folder_.path("a.safetensors"), folder_.path("c.safetensors"));
  EXPECT_NE(now(), first);
}

TEST_F(FingerprintTest, WhatIsMissingIsNamed) {
  fs::remove(folder_.path("config.json"));
  const auto hash = fingerprint(folder_.path());
  ASSERT_FALSE(hash.ok());
  EXPECT_NE(hash.error().message.find("config.json"), std::string::npos) << hash.error().message;
  EXPECT_EQ(fingerprint("/no/such/folder").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace gimbal::checkpoint
