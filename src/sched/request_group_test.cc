#include "sched/request_group.h"

#include <gtest/gtest.h>

#include <vector>

namespace gimbal::sched {
namespace {

std::vector<TokenId> tokens(int count, TokenId first = 1) {
  std::vector<TokenId> made(static_cast<std::size_t>(count), 5);
  if (count > 0) made.front() = first;
  return made;
}

Request request(std::vector<TokenId> prompt, std::uint64_t salt = 0) {
  Request made;
  made.prompt = std::move(prompt);
  made.cache_salt = salt;
  return made;
}

TEST(RequestGroupTest, SharesWholePagesAndNeverTheLastToken) {
  EXPECT_EQ(shared_prefix_tokens(tokens(40), tokens(40), 16), 32);
  EXPECT_EQ(shared_prefix_tokens(tokens(32), tokens(32), 16), 16);
  EXPECT_EQ(shared_prefix_tokens(tokens(32), tokens(33), 16), 32);
  EXPECT_EQ(shared_prefix_tokens(tokens(20), tokens(100), 16), 16);
  EXPECT_EQ(shared_prefix_tokens(tokens(100), tokens(20), 16), 16);
  EXPECT_EQ(shared_prefix_tokens(tokens(40, 1), tokens(40, 2), 16), 0);
  EXPECT_EQ(shared_prefix_tokens({}, tokens(40), 16), 0);
  EXPECT_EQ(shared_prefix_tokens(tokens(40), {}, 16), 0);
}

TEST(RequestGroupTest, CountsWhatNeighboursShareOnce) {
  StepLoopOptions options;
  options.page_tokens = 16;
  const auto count = [&](std::vector<Request> group) {
    return group_prefill_tokens(group, options);
  };
  EXPECT_EQ(count({}), 0);
  EXPECT_EQ(count({request(tokens(40))}), 40);
  EXPECT_EQ(count({request(tokens(40)), request(tokens(40)), request(tokens(40))}), 40 + 8 + 8);
  EXPECT_EQ(count({request(tokens(40, 1)), request(tokens(40, 2))}), 80);
  EXPECT_EQ(count({request(tokens(40), 1), request(tokens(40), 2)}), 80);
  std::vector<Request> scored{request(tokens(40)), request(tokens(40))};
  for (Request& each : scored)
    each.sampling.prompt_logprobs = true;
  EXPECT_EQ(count(scored), 80);
  options.prefix_caching = false;
  EXPECT_EQ(count({request(tokens(40)), request(tokens(40))}), 80);
}

}  // namespace
}  // namespace gimbal::sched
