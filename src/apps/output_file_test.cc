#include "apps/output_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/temporary_folder.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

class OutputFileTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string path() const { return folder_.path("out.json"); }
  [[nodiscard]] std::string content() const {
    std::ostringstream text;
    text << std::ifstream(path()).rdbuf();
    return std::move(text).str();
  }
  [[nodiscard]] int files() const {
    return static_cast<int>(std::distance(fs::directory_iterator(folder_.path()), {}));
  }

  TemporaryFolder folder_;
};

TEST_F(OutputFileTest, IsThereWhenCommitted) {
  auto file = OutputFile::open(path());
  ASSERT_TRUE(file.ok());
  (*file)->stream() << "all";
  EXPECT_FALSE(fs::exists(path()));
  ASSERT_TRUE((*file)->commit().ok());
  EXPECT_EQ(content(), "all");
  EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, LeavesNothingOtherwise) {
  std::ofstream(path()) << "before";
  {
    auto file = OutputFile::open(path());
    ASSERT_TRUE(file.ok());
    (*file)->stream() << "half";
  }
  EXPECT_EQ(content(), "before");
  EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, NamesPathsThatCannotBeWritten) {
  for (const std::string& wrong : {folder_.path(), folder_.path("none/out")}) {
    const auto file = OutputFile::open(wrong);
    ASSERT_FALSE(file.ok());
    EXPECT_NE(file.error().message.find(wrong), std::string::npos);
  }
  EXPECT_EQ(files(), 0);
}

TEST_F(OutputFileTest, WritesDevicesAsTheyCome) {
  auto file = OutputFile::open("/dev/null");
  ASSERT_TRUE(file.ok());
  (*file)->stream() << "gone";
  EXPECT_TRUE((*file)->commit().ok());
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

}  // namespace
}  // namespace gimbal::apps
