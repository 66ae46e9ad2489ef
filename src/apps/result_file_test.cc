#include "apps/result_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "base/temporary_folder.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class ResultFileTest : public testing::Test {
 protected:
  [[nodiscard]] std::string folder() const { return folder_.path(); }
  [[nodiscard]] std::string at(const std::string& name) const { return folder_.path(name); }
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      found.insert(entry.path().filename().string());
    return found;
  }
  [[nodiscard]] static std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] std::unique_ptr<ResultFile> opened(ResultFile::Options options) const {
    options.folder = folder();
    auto file = ResultFile::open(options);
    EXPECT_TRUE(file.ok()) << file.error().message;
    return std::move(*file);
  }
  void save(const ResultFile::Options& options, int number) const {
    EXPECT_TRUE(opened(options)->write({{"n", number}}).ok());
  }

  TemporaryFolder folder_;
};

TEST_F(ResultFileTest, AutomaticNamesNeverMeet) {
  for (int i = 1; i <= 3; ++i)
    save({.automatic = "run-0.5qps.json"}, i);
  EXPECT_THAT(names(),
              UnorderedElementsAre("run-0.5qps.json", "run-0.5qps-2.json", "run-0.5qps-3.json"));
  EXPECT_EQ(text_of(at("run-0.5qps.json")), "{\"n\":1}\n");
  EXPECT_EQ(text_of(at("run-0.5qps-3.json")), "{\"n\":3}\n");
}

TEST_F(ResultFileTest, RunsAtOneTimeGetNamesOfTheirOwn) {
  const auto first = opened({.automatic = "a.json"});
  const auto second = opened({.automatic = "a.json"});
  EXPECT_NE(first->path(), second->path());
  EXPECT_TRUE(second->write({{"n", 2}}).ok());
  EXPECT_TRUE(first->write({{"n", 1}}).ok());
  EXPECT_THAT(names(), UnorderedElementsAre("a.json", "a-2.json"));
}

TEST_F(ResultFileTest, WhatIsNotWrittenLeavesNothing) {
  save({.filename = "named.json"}, 1);
  (void)opened({.automatic = "a.json"});
  (void)opened({.filename = "named.json"});
  (void)opened({.filename = "other.json", .append = true});
  EXPECT_THAT(names(), UnorderedElementsAre("named.json"));
  EXPECT_EQ(text_of(at("named.json")), "{\"n\":1}\n");
}

TEST_F(ResultFileTest, ANamedFileIsReplacedAndSaysSo) {
  const auto first = opened({.filename = "b.json"});
  EXPECT_FALSE(first->replaces());
  EXPECT_TRUE(first->write({{"n", 1}}).ok());
  EXPECT_TRUE(opened({.filename = "b.json"})->replaces());
  save({.filename = "b.json"}, 2);
  EXPECT_EQ(text_of(at("b.json")), "{\"n\":2}\n");
}

TEST_F(ResultFileTest, AppendsOnALineOfItsOwn) {
  for (int i = 1; i <= 2; ++i)
    save({.filename = "c.json", .append = true}, i);
  EXPECT_EQ(text_of(at("c.json")), "{\"n\":1}\n{\"n\":2}\n");
  folder_.write("d.json", "{}");
  save({.filename = "d.json", .append = true}, 3);
  EXPECT_EQ(text_of(at("d.json")), "{}\n{\"n\":3}\n");
}

TEST_F(ResultFileTest, APlaceThatCannotBeWrittenIsAnErrorBeforeTheRun) {
  folder_.write("file", "x");
  fs::create_directory(at("taken"));
  for (const bool append : {false, true}) {
    const auto error_of = [&](const std::string& place, const std::string& name) {
      const auto file = ResultFile::open({.folder = place, .filename = name, .append = append});
      return file.ok() ? "opened" : file.error().message;
    };
    EXPECT_THAT(error_of(at("file"), "a.json"), HasSubstr("file"));  // no folder
    EXPECT_THAT(error_of(folder(), "taken"), HasSubstr("taken"));    // a folder itself
  }
  EXPECT_FALSE(ResultFile::open({.folder = "/proc/none", .automatic = "a.json"}).ok());
}

TEST_F(ResultFileTest, MakesTheFolder) {
  auto file = ResultFile::open({.folder = at("x/y"), .automatic = "a.json"});
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->write({}).ok());
  EXPECT_TRUE(fs::exists(at("x/y/a.json")));
}

}  // namespace
}  // namespace gimbal::apps
