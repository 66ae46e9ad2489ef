#include "apps/request_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

namespace gimbal::apps {
namespace {

using testing::HasSubstr;

RequestFlags parsed(std::vector<std::string> arguments) {
  CLI::App app;
  RequestFlags flags;
  flags.add_to(app);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return flags;
}

Result<loadgen::RequestOptions> options_from(std::vector<std::string> arguments) {
  return parsed(std::move(arguments)).options({}, {});
}

TEST(RequestFlags, TheBackendChoosesTheEndpoint) {
  EXPECT_EQ(options_from({})->endpoint, "/v1/completions");
  EXPECT_EQ(options_from({"--backend", "vllm"})->endpoint, "/v1/completions");
  EXPECT_EQ(options_from({"--backend", "openai-chat"})->endpoint, "/v1/chat/completions");
  EXPECT_EQ(options_from({"--endpoint", "/v2/chat/completions"})->endpoint, "/v2/chat/completions");
  EXPECT_EQ(
      options_from({"--backend", "openai-chat", "--endpoint", "/x/chat/completions"})->endpoint,
      "/x/chat/completions");
  EXPECT_THAT(
      options_from({"--backend", "openai-chat", "--endpoint", "/v1/completions"}).error().message,
      HasSubstr("--endpoint"));
  EXPECT_THROW(parsed({"--backend", "tgi"}), CLI::ValidationError);
}

TEST(RequestFlags, SamplingFieldsGoIntoTheBody) {
  EXPECT_TRUE(options_from({})->extra_body.empty());
  const auto options =
      options_from({"--top-p", "0.9", "--top-k", "40", "--min-p", "0.05", "--frequency-penalty",
                    "0.5", "--presence-penalty", "-1", "--repetition-penalty", "1.1",
                    "--extra-body", R"({"top_k":7})"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->extra_body, (nlohmann::json{{"top_p", 0.9},
                                                 {"top_k", 7},  // the operator's body wins
                                                 {"min_p", 0.05},
                                                 {"frequency_penalty", 0.5},
                                                 {"presence_penalty", -1.0},
                                                 {"repetition_penalty", 1.1}}));
  EXPECT_EQ(options->temperature, 0.0);
}

TEST(RequestFlags, RefusesBodiesThatAreNone) {
  EXPECT_THAT(options_from({"--extra-body", "{"}).error().message, HasSubstr("--extra-body"));
  EXPECT_THAT(options_from({"--extra-body", "[1]"}).error().message, HasSubstr("extra body"));
}

TEST(RequestFlags, SaysWhatIsOfNoUse) {
  EXPECT_EQ(parsed({}).of_no_use(), "");
  EXPECT_EQ(parsed({"--tokenizer", "gpt2", "--trust-remote-code"}).of_no_use(),
            "--tokenizer, --trust-remote-code");
}

}  // namespace
}  // namespace gimbal::apps
