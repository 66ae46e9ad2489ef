#include "sched/request_group.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "sched/loop_driver.h"

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

StepLoopOptions small_options() {
  StepLoopOptions options;
  options.order = "fcfs";
  options.former = "vllm";
  options.max_model_len = 64;
  options.vocab_size = 100;
  options.kv_pages = 256;
  options.page_tokens = 4;
  options.max_num_batched_tokens = 32;
  return options;
}

SubmitGroup group_of(LoopDriver& driver, std::vector<std::vector<TokenId>> prompts) {
  SubmitGroup group;
  for (auto& prompt : prompts)
    group.requests.push_back({.id = driver.next_id(), .prompt = std::move(prompt)});
  return group;
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

TEST(RequestGroupTest, AGroupIsAcceptedOrRefusedAsAWhole) {
  StepLoopOptions options = small_options();
  options.max_waiting_prefill_tokens = 30;
  LoopDriver driver(options);
  driver.send(group_of(driver, {tokens(40, 1), tokens(40, 2)}));  // an empty queue takes any group
  EXPECT_TRUE(driver.refused.empty());
  driver.run_until_idle();
  EXPECT_EQ(driver.told.size(), 2U);
  driver.submit(tokens(60, 3), 4);  // runs
  driver.submit(tokens(10, 4), 4);  // waits
  const std::int64_t waiting = driver.loop->counters().waiting_prefill_tokens;
  driver.send(group_of(driver, {tokens(19, 5), tokens(19, 6)}));
  EXPECT_EQ(driver.refused.size(), 2U);
  EXPECT_EQ(driver.refused.at(RequestId{5}).code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(driver.refused.at(RequestId{6}).code, ErrorCode::kResourceExhausted);
  driver.send(group_of(driver, {tokens(5, 7), {options.vocab_size}}));
  EXPECT_EQ(driver.refused.at(RequestId{7}).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(driver.refused.at(RequestId{8}).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(driver.loop->counters().waiting_prefill_tokens, waiting);
  driver.run_until_idle();
  EXPECT_EQ(driver.told.size(), 4U);
}

TEST(RequestGroupTest, TheQueueCountsWhatChoicesOfOnePromptShareOnce) {
  StepLoopOptions options = small_options();
  options.max_waiting_prefill_tokens = 40;
  LoopDriver driver(options);
  driver.submit(tokens(60, 1), 4);  // runs
  driver.submit(tokens(1, 2), 4);   // waits
  driver.send(group_of(driver, {tokens(18, 3), tokens(18, 3), tokens(18, 3)}));
  EXPECT_TRUE(driver.refused.empty());
  EXPECT_EQ(driver.loop->counters().waiting_prefill_tokens, 1 + 18 + 2 + 2);
  driver.send(group_of(driver, {tokens(18, 4), tokens(18, 4), tokens(18, 4)}));
  EXPECT_EQ(driver.refused.size(), 3U);
  driver.run_until_idle();
  EXPECT_EQ(driver.told.size(), 5U);
}

// What makes that count right: at most one step's rows are computed in vain.
TEST(RequestGroupTest, ChoicesOfOnePromptComputeWhatTheyShareOnceButForOneStep) {
  for (const char* former : {"vllm", "tgi", "gimbal"}) {
    for (const int length : {7, 30, 31, 50, 63}) {
      StepLoopOptions options = small_options();
      options.former = former;
      LoopDriver driver(options);
      SubmitGroup group = group_of(driver, std::vector(12, tokens(length)));
      const std::int64_t counted = group_prefill_tokens(group.requests, options);
      driver.send(std::move(group));
      driver.run_until_idle();
      std::int64_t computed = 0;  // one token is asked for: there are no rows of decodes
      for (const auto& plan : driver.executor.plans) {
        for (const auto& step : plan.sequences)
          computed += step.rows;
      }
      EXPECT_LE(computed, counted + options.max_num_batched_tokens) << former << " " << length;
    }
  }
}

}  // namespace
}  // namespace gimbal::sched
