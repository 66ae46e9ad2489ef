#include "apps/load_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "workload/prompt_tokens.h"

namespace gimbal::apps {
namespace {

using workload::RequestSpec;
using workload::Workload;

Workload three() {
  Workload requests;
  for (std::uint64_t i = 0; i < 3; ++i) {
    RequestSpec request{.arrival = std::chrono::seconds(i), .output_tokens = 7};
    request.prompt = {{.identity = 5, .tokens = 32}, {.identity = i, .tokens = 8}};
    requests.requests.push_back(request);
  }
  requests.requests[1].text = "What is the answer to the question that nobody asked?";
  return requests;
}

std::set<std::string> words_of(const std::string& text) {
  std::set<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t space = std::min(text.find(' ', at), text.size());
    words.insert(text.substr(at, space - at));
    at = space + 1;
  }
  return words;
}

TEST(LoadRun, WarmsUpWithLengthsOfTheRunAtOnce) {
  const Workload warm = warm_up_requests(three(), 2, {});
  ASSERT_EQ(warm.requests.size(), 2u);
  for (const RequestSpec& request : warm.requests) {
    EXPECT_EQ(request.arrival, Duration{});
    EXPECT_EQ(request.prompt_tokens(), 40);
    EXPECT_EQ(request.output_tokens, 7);
  }
  EXPECT_EQ(warm_up_requests(three(), 100, {}).requests.size(), 3u);
}

TEST(LoadRun, WarmUpPromptsShareNoBeginningWithTheRuns) {
  const Workload run = three();
  const workload::TokenSpace space;
  for (const RequestSpec& warm : warm_up_requests(run, 3, space).requests) {
    const auto tokens = prompt_tokens(warm, space);
    for (const RequestSpec& other : run.requests) {
      const auto theirs = prompt_tokens(other, space);
      EXPECT_NE(tokens.front(), theirs.front());
      EXPECT_FALSE(std::equal(tokens.begin(), tokens.begin() + 16, theirs.begin()));
    }
  }
}

TEST(LoadRun, WarmsUpATraceOfTextWithOtherText) {
  const Workload run = three();
  const Workload warm = warm_up_requests(run, 3, {});
  EXPECT_EQ(warm.requests[0].text, "");
  const std::string& text = warm.requests[1].text;
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 39);  // a word a token
  const auto words = words_of(text);
  EXPECT_FALSE(words.contains("What"));
  EXPECT_FALSE(run.requests[1].text.starts_with(text.substr(0, 4)));
}

}  // namespace
}  // namespace gimbal::apps
