#include "apps/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <fstream>

#include "base/temporary_folder.h"

namespace gimbal::apps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ConfigFile : public ::testing::Test {
 protected:
  ConfigFile() {
    CLI::App* serve = program_.add_subcommand("serve");
    serve->add_option("model_dir", text_);
    serve->add_option("--config", text_);
    serve->add_option("--port", number_);
    serve->add_option("--api-key", many_);
    serve->add_flag("--fast,!--no-fast", flag_);
    program_.add_subcommand("other")->add_option("--port", number_);
  }

  Result<std::vector<std::string>> expand(const std::string& contents,
                                          std::vector<std::string> before = {},
                                          std::vector<std::string> after = {}) {
    std::ofstream(path_) << contents;
    std::vector<std::string> arguments{"serve"};
    arguments.insert(arguments.end(), before.begin(), before.end());
    arguments.insert(arguments.end(), {"--config", path_});
    arguments.insert(arguments.end(), after.begin(), after.end());
    return expand_config_file(program_, arguments);
  }

  CLI::App program_;
  TemporaryFolder folder_;
  std::string path_ = folder_.path("options.ini");
  std::string text_;
  int number_ = 0;
  bool flag_ = false;
  std::vector<std::string> many_;
};

TEST_F(ConfigFile, OptionsStandInFrontOfTheCommandLinesOwn) {
  const auto expanded =
      expand("# comment\nport = 9000\nfast = false\n", {"dir"}, {"--api-key", "k"});
  ASSERT_TRUE(expanded.ok()) << expanded.error().message;
  EXPECT_THAT(*expanded,
              ElementsAre("serve", "--port=9000", "--fast=false", "dir", "--api-key", "k"));
}

TEST_F(ConfigFile, TheCommandLineWins) {
  const auto expanded = expand("port = 9000\n", {}, {"--port=1"});
  ASSERT_TRUE(expanded.ok());
  EXPECT_THAT(*expanded, ElementsAre("serve", "--port=1"));
}

TEST_F(ConfigFile, ListsAndUnderscoresAreUnderstood) {
  const auto expanded = expand("api_key = [\"a\", \"b\"]\n");
  ASSERT_TRUE(expanded.ok()) << expanded.error().message;
  EXPECT_THAT(*expanded, ElementsAre("serve", "--api-key=a", "--api-key=b"));
}

TEST_F(ConfigFile, UnknownOptionsAreNamed) {
  const auto expanded = expand("prot = 9000\n");
  ASSERT_FALSE(expanded.ok());
  EXPECT_THAT(expanded.error().message, HasSubstr("prot"));
  EXPECT_THAT(expanded.error().message, HasSubstr(path_));
}

TEST_F(ConfigFile, AMissingFileIsAnError) {
  const auto expanded = expand_config_file(program_, {"serve", "--config=/nowhere/at-all"});
  ASSERT_FALSE(expanded.ok());
  EXPECT_EQ(expanded.error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(expand_config_file(program_, {"serve", "--config"}).ok());
}

TEST_F(ConfigFile, OtherCommandsAndPlainLinesPassThrough) {
  for (const std::vector<std::string>& line : {std::vector<std::string>{},
                                               {"other", "--config", "x"},
                                               {"serve", "--port", "3"},
                                               {"--help"}}) {
    const auto expanded = expand_config_file(program_, line);
    ASSERT_TRUE(expanded.ok());
    EXPECT_EQ(*expanded, line);
  }
}

}  // namespace
}  // namespace gimbal::apps
