#include "policy/expert_queue_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal::policy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

WaitingExpertQueue waits(int latency_sensitive, int best_effort, int deferred = 0,
                         double since_ms = 1000) {
  static int expert = 0;
  return {.layer = LayerIndex{0},
          .expert = ExpertId{++expert},
          .latency_sensitive_rows = latency_sensitive,
          .best_effort_rows = best_effort,
          .deferred_runs = deferred,
          .oldest = TimePoint{} + from_ms(since_ms)};
}

std::vector<int> choose(std::string_view name, const std::vector<WaitingExpertQueue>& queues,
                        ExpertRunCost cost = {}, const ExpertQueuePolicyOptions& options = {}) {
  ExpertQueueDecision decision;
  decision.run = {7, 8, 9};
  decision.wait_until = TimePoint{};
  make_expert_queue_policy(name, options)
      .value()
      ->choose({.queues = queues, .cost = cost, .now = TimePoint{} + from_ms(1000)}, decision);
  EXPECT_EQ(decision.wait_until, std::nullopt);
  return decision.run;
}

TEST(ExpertQueuePolicy, NothingWaitingRunsNothing) {
  for (const std::string_view name : expert_queue_policy_names()) {
    EXPECT_THAT(choose(name, {}), IsEmpty()) << name;
  }
}

TEST(ExpertQueuePolicy, RunAllRunsEverythingLatencySensitiveFirst) {
  const ExpertRunCost slow{.ms_per_expert = 100};
  EXPECT_THAT(choose("run-all", {waits(0, 3), waits(1, 0), waits(0, 1), waits(2, 2)}, slow),
              ElementsAre(1, 3, 0, 2));
  EXPECT_THAT(choose("run-all", {waits(1, 0), waits(1, 5)}, slow), ElementsAre(0, 1));
}

TEST(ExpertQueuePolicy, LsFirstFillsTheQuantumWithBestEffortInOrder) {
  const std::vector<WaitingExpertQueue> queues = {waits(0, 1), waits(1, 9), waits(0, 5),
                                                  waits(0, 1)};
  // Queue 1 costs 0.5 + 10·0.01 = 0.6 ms, queue 0 then 0.36 ms, queue 2 no more.
  const ExpertRunCost cost{.ms_per_expert = 0.35, .ms_per_row = 0.01};
  EXPECT_THAT(choose("ls-first", queues, cost), ElementsAre(1, 0));
  EXPECT_THAT(choose("ls-first", queues, cost, {.quantum = Duration::zero()}), ElementsAre(1));
  EXPECT_THAT(choose("ls-first", queues, cost, {.quantum = from_ms(100)}), ElementsAre(1, 0, 2, 3));
}

TEST(ExpertQueuePolicy, LsFirstRunsLatencySensitiveQueuesBeyondTheQuantum) {
  const ExpertRunCost cost{.ms_per_expert = 10};
  EXPECT_THAT(choose("ls-first", {waits(1, 0), waits(0, 1), waits(1, 1)}, cost), ElementsAre(0, 2));
}

TEST(ExpertQueuePolicy, LsFirstWithoutACostIsNotLimited) {
  EXPECT_THAT(choose("ls-first", {waits(0, 1), waits(1, 1), waits(0, 100)}), ElementsAre(1, 0, 2));
}

TEST(ExpertQueuePolicy, LsFirstRunsSomethingEvenIfNothingFits) {
  const ExpertRunCost cost{.ms_per_expert = 10};
  EXPECT_THAT(choose("ls-first", {waits(0, 1), waits(0, 1)}, cost), ElementsAre(0));
}

TEST(ExpertQueuePolicy, LsFirstDefersNoLongerThanItsBounds) {
  const ExpertRunCost cost{.ms_per_expert = 10};
  const ExpertQueuePolicyOptions options{.max_defer = 3, .max_wait = from_ms(50)};
  EXPECT_THAT(choose("ls-first",
                     {waits(0, 1, 2), waits(0, 1, 3), waits(1, 0), waits(0, 1, 0, 950.5),
                      waits(0, 1, 0, 950)},
                     cost, options),
              ElementsAre(2, 1, 4));
}

TEST(ExpertQueuePolicy, UnknownNamesAndBadOptionsAreErrors) {
  EXPECT_EQ(make_expert_queue_policy("fifo", {}).error().field, "name");
  EXPECT_EQ(make_expert_queue_policy("ls-first", {.quantum = Duration{-1}}).error().field,
            "quantum");
  EXPECT_EQ(make_expert_queue_policy("ls-first", {.max_defer = -1}).error().field, "max_defer");
  EXPECT_EQ(make_expert_queue_policy("run-all", {.max_wait = Duration{-1}}).error().field,
            "max_wait");
  for (const std::string_view name : expert_queue_policy_names()) {
    EXPECT_TRUE(make_expert_queue_policy(name, {}).ok());
  }
}

}  // namespace
}  // namespace gimbal::policy
