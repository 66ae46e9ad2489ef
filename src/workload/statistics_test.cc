#include "workload/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "workload/prompt_tokens.h"

namespace gimbal::workload {
namespace {

RequestSpec of(std::vector<PromptPart> parts, int arrival_ms = 0) {
  RequestSpec request;
  request.prompt = std::move(parts);
  request.arrival = std::chrono::milliseconds(arrival_ms);
  return request;
}

TEST(Statistics, CountsWhatIsThere) {
  Workload workload;
  workload.requests = {of({{1, 10, 0}, {2, 5, 3}}, 0), of({{1, 10, 0}, {3, 5, 3}}, 1000),
                       of({{4, 7}}, 2000)};
  workload.requests[0].user = "a";
  workload.requests[1].user = "a";
  workload.requests[2].user = "b";
  workload.requests[2].traffic_class = TrafficClass::kBestEffort;
  const WorkloadStatistics found = statistics_of(workload);
  EXPECT_EQ(found.requests, 3u);
  EXPECT_EQ(found.seconds, 2.0);
  EXPECT_EQ(found.rate, 1.5);
  EXPECT_EQ(found.gap_variation, 0.0);
  EXPECT_EQ(found.prompt_tokens, 37);
  EXPECT_EQ(found.output_tokens, 3);
  EXPECT_EQ(found.shared_prompt_tokens, 10);
  EXPECT_EQ(found.users, 2u);
  EXPECT_EQ(found.classes, (std::map<std::string, std::size_t>{{"BE", 1}}));
  EXPECT_EQ(found.topics, (std::map<int, std::int64_t>{{0, 20}, {3, 10}}));
  EXPECT_EQ(found.prompt_lengths, (std::vector<double>{15, 15, 7}));
}

TEST(Statistics, OfNothingIsZero) {
  const WorkloadStatistics found = statistics_of({});
  EXPECT_EQ(found.requests, 0u);
  EXPECT_EQ(found.rate, 0.0);
}

// Against the longest common prefix of the tokens themselves.
TEST(Statistics, SharedTokensAreCommonPrefixesOfTheTokens) {
  Rng rng(5);
  for (int round = 0; round < 50; ++round) {
    Workload workload;
    std::vector<std::vector<TokenId>> seen;
    std::int64_t expected = 0;
    for (int i = 0; i < 12; ++i) {
      std::vector<PromptPart> parts;
      for (std::uint64_t j = 1 + rng.below(3); j > 0; --j) {
        // A part of one identity mostly has one length; the last of a prompt may be cut short.
        const std::uint64_t identity = rng.below(3);
        parts.push_back({identity, static_cast<std::int64_t>(20 + identity)});
      }
      if (rng.below(3) == 0) parts.back().tokens = rng.between(1, 20);
      workload.requests.push_back(of(parts));
      const auto tokens = prompt_tokens(workload.requests.back(), {.vocab_size = 1 << 20});
      std::ptrdiff_t longest = 0;
      for (const auto& earlier : seen) {
        const auto end =
            std::mismatch(tokens.begin(), tokens.end(), earlier.begin(), earlier.end());
        longest = std::max(longest, end.first - tokens.begin());
      }
      expected += longest;
      seen.push_back(tokens);
    }
    EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, expected);
  }
}

}  // namespace
}  // namespace gimbal::workload
