#include "base/temporary_folder.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace gimbal
