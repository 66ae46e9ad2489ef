#include "base/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace gimbal {
namespace {

TEST(TemporaryFolderTest, IsNewEachTimeAndGoneAfterwards) {
  std::string first;
  {
    const TemporaryFolder folder;
    const TemporaryFolder other;
    first = folder.path();
    EXPECT_NE(first, other.path());
    const std::string file = folder.write("a", "one");
    EXPECT_EQ(file, folder.path("a"));
    EXPECT_EQ(folder.write("a", "two"), file);
    std::ostringstream content;
    content << std::ifstream(file).rdbuf();
    EXPECT_EQ(content.str(), "two");
    EXPECT_TRUE(std::filesystem::is_empty(other.path()));
  }
  EXPECT_FALSE(std::filesystem::exists(first));
}

TEST(TemporaryFolderTest, SaysWhereNoneCanBeMade) {
  const TemporaryFolder folder;
  const char* const before = std::getenv("TMPDIR");
  const std::string kept = before != nullptr ? before : "";
  const std::string none = folder.path("none");
  ASSERT_EQ(setenv("TMPDIR", none.c_str(), 1), 0);
  const auto made = TemporaryFolder::make();
  if (before != nullptr) {
    setenv("TMPDIR", kept.c_str(), 1);
  } else {
    unsetenv("TMPDIR");
  }
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("TMPDIR"), std::string::npos);
}

}  // namespace
}  // namespace gimbal
