#include "checkpoint/fingerprint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;

class FingerprintTest : public ::testing::Test {
 protected:
  FingerprintTest() {
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    write("config.json", "{}");
    write("a.safetensors", "first");
    write("b.safetensors", "second");
  }
  ~FingerprintTest() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  std::uint64_t now() {
    const auto hash = fingerprint(folder_.string());
    EXPECT_TRUE(hash.ok());
    return *hash;
  }

  fs::path folder_ =
      fs::path(::testing::TempDir()) / ("gimbal-fingerprint-test-" + std::to_string(getpid()));
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
  fs::rename(folder_ / "a.safetensors", folder_ / "c.safetensors");
  EXPECT_NE(now(), first);
}

TEST_F(FingerprintTest, WhatIsMissingIsNamed) {
  fs::remove(folder_ / "config.json");
  const auto hash = fingerprint(folder_.string());
  ASSERT_FALSE(hash.ok());
  EXPECT_NE(hash.error().message.find("config.json"), std::string::npos) << hash.error().message;
  EXPECT_EQ(fingerprint("/no/such/folder").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace gimbal::checkpoint
