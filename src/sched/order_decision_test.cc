#include "sched/order_decision.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "sched/loop_driver.h"
#include "sched/random_run.h"

namespace gimbal::sched {
namespace {

StepLoopOptions small_options() {
  StepLoopOptions options;
  options.order = "fcfs";
  options.former = "vllm";
  options.max_model_len = 64;
  options.vocab_size = 997;
  options.kv_pages = 64;
  options.page_tokens = 4;
  options.max_num_batched_tokens = 32;
  options.prefix_caching = false;
  options.report_order = true;
  return options;
}

std::vector<TokenId> prompt(int first, int length) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < length; ++i)
    tokens.push_back((100 * first + i) % 997);
  return tokens;
}

std::vector<OrderDecision> about(const LoopDriver& driver, RequestId request) {
  std::vector<OrderDecision> found;
  for (const OrderDecision& decision : driver.ordered) {
    if (decision.request == request) found.push_back(decision);
  }
  return found;
}

TEST(OrderDecisionTest, ARequestThatWaitsItsTurnHasOneDecision) {
  StepLoopOptions options = small_options();
  options.max_num_seqs = 1;
  LoopDriver driver(options);
  const RequestId first = driver.submit(prompt(1, 8), 3);
  const RequestId second = driver.submit(prompt(2, 9), 3);
  driver.run_until_idle();
  ASSERT_EQ(driver.ordered.size(), 2U);
  const OrderDecision made = about(driver, second).at(0);
  EXPECT_EQ(made.reason, OrderReason::kArrived);
  EXPECT_EQ(made.job_tokens, 9);
  EXPECT_EQ(made.waited, Duration::zero());
  EXPECT_EQ(made.waiting_requests, 0);  // the first one runs
  EXPECT_EQ(about(driver, first).at(0).waiting_requests, 0);
}

// 16 pages of 4 tokens: two prompts of 7 pages, and each wants 4 pages more.
TEST(OrderDecisionTest, AnEvictedRequestIsQueuedAgainWithItsKey) {
  StepLoopOptions options = small_options();
  options.kv_pages = 16;
  LoopDriver driver(options);
  const RequestId first = driver.submit(prompt(1, 28), 16);
  const RequestId second = driver.submit(prompt(2, 28), 16);
  driver.run_until_idle();
  ASSERT_EQ(driver.loop->counters().evictions, 1U);
  EXPECT_EQ(about(driver, first).size(), 1U);
  const auto decisions = about(driver, second);
  ASSERT_EQ(decisions.size(), 2U);
  EXPECT_EQ(decisions[0].reason, OrderReason::kArrived);
  EXPECT_EQ(decisions[1].reason, OrderReason::kEvicted);
  EXPECT_EQ(decisions[1].key, decisions[0].key);
  EXPECT_EQ(decisions[1].job_tokens, decisions[0].job_tokens);
  EXPECT_GT(decisions[1].waited, Duration::zero());
}

TEST(OrderDecisionTest, WhoGaveItsPagesToAHeadIsToldApart) {
  StepLoopOptions options = small_options();
  options.former = "gimbal";
  options.kv_pages = 16;
  LoopDriver driver(options);
  const RequestId poor = driver.submit(prompt(1, 40), 8, RequestClass::kBestEffort);
  driver.run_step();
  driver.submit(prompt(2, 40), 8);
  driver.run_until_idle();
  ASSERT_EQ(driver.loop->counters().evictions_for_heads, 1U);
  const auto decisions = about(driver, poor);
  ASSERT_EQ(decisions.size(), 2U);
  EXPECT_EQ(decisions[1].reason, OrderReason::kMadeRoom);
  EXPECT_TRUE(decisions[1].best_effort);
}

// Under SJF with promotion the long prompt would be overtaken by every short one.
TEST(OrderDecisionTest, APromotedRequestSaysSoWhenItIsAdmitted) {
  StepLoopOptions options = small_options();
  options.order = "sjf-priority-aging";
  options.order_options.promote_after = from_ms(1);
  options.max_num_seqs = 1;
  LoopDriver driver(options);
  driver.submit(prompt(1, 4), 4);
  const RequestId late = driver.submit(prompt(2, 30), 2);
  driver.submit(prompt(3, 4), 2);
  driver.now += from_ms(2);
  driver.run_until_idle();
  const auto decisions = about(driver, late);
  ASSERT_EQ(decisions.size(), 2U);
  EXPECT_EQ(decisions[1].reason, OrderReason::kPromoted);
  EXPECT_EQ(decisions[1].key, decisions[0].key);
  EXPECT_GT(decisions[1].waited, from_ms(1));
  EXPECT_EQ(decisions[1].waiting_requests, 1);
}

// What a decision says is enough to decide it again, whatever led to it.
TEST(OrderDecisionTest, EveryDecisionOfRandomRunsIsDecidedAgain) {
  std::set<OrderReason> seen;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    for (const std::string_view name : policy::request_order_names()) {
      Rng rng(seed);
      StepLoopOptions options = random_options(rng);
      options.order = name;
      options.report_order = true;
      const auto order = policy::make_request_order(name, options.order_options).value();
      LoopDriver driver(options, seed);
      run_random(driver, rng, 60, 0.05);
      std::map<RequestId, int> arrivals;
      for (const OrderDecision& decision : driver.ordered) {
        seen.insert(decision.reason);
        arrivals[decision.request] += decision.reason == OrderReason::kArrived ? 1 : 0;
        ASSERT_EQ(arrivals[decision.request], 1);  // it comes once, and first
        ASSERT_EQ(order->key(decision.ordered), decision.key);
        ASSERT_EQ(decision.cost.ms(decision.job_tokens), decision.ordered.job_ms);
        if (decision.reason != OrderReason::kPromoted) continue;
        const auto promote_after = order->promote_after(decision.median_wait);
        ASSERT_TRUE(promote_after && decision.waited > *promote_after);
      }
      ASSERT_FALSE(driver.ordered.empty());
    }
  }
  for (const OrderReason reason :
       {OrderReason::kArrived, OrderReason::kEvicted, OrderReason::kPromoted})
    EXPECT_TRUE(seen.contains(reason)) << to_string(reason);
}

}  // namespace
}  // namespace gimbal::sched
