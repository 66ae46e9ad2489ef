// What the step loop learns from the times of its steps, and does with it.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "sched/loop_driver.h"

namespace gimbal::sched {
namespace {

constexpr Duration kPerStep = std::chrono::milliseconds(2);
constexpr Duration kPerRow = std::chrono::microseconds(50);
constexpr Duration kPerExpert = std::chrono::microseconds(100);
constexpr int kExperts = 40;

StepLoopOptions timed_options() {
  StepLoopOptions options;
  options.max_model_len = 512;
  options.vocab_size = 997;
  options.kv_pages = 1024;
  options.page_tokens = 8;
  options.max_num_batched_tokens = 128;
  options.experts = {.experts = kExperts, .choices_per_row = 1};
  return options;
}

ScriptedExecutor::Options timed_executor(const StepLoopOptions& options) {
  auto executor = LoopDriver::executor_options(options, 1);
  executor.per_step = kPerStep;
  executor.per_row = kPerRow;
  executor.per_expert = kPerExpert;
  executor.experts = kExperts;
  return executor;
}

Duration time_of(const StepPlan& plan) {
  int rows = 0;
  for (const SequenceStep& step : plan.sequences)
    rows += step.rows;
  return kPerStep + rows * kPerRow + ScriptedExecutor::touched_experts(kExperts, rows) * kPerExpert;
}

// Prompts of many lengths, one every few steps.
void run_load(LoopDriver& driver, int requests) {
  Rng rng(7);
  for (int i = 0; i < requests; ++i) {
    std::vector<TokenId> prompt(static_cast<std::size_t>(rng.between(1, 400)));
    for (TokenId& token : prompt)
      token = static_cast<TokenId>(rng.below(997));
    driver.submit(std::move(prompt), static_cast<int>(rng.between(20, 100)));
    for (int step = 0; step < 4 && !driver.loop->idle(); ++step)
      driver.run_step();
  }
}

TEST(StepLoopTimesTest, LearnsWhatStepsTake) {
  const StepLoopOptions options = timed_options();
  LoopDriver driver(options, timed_executor(options));
  EXPECT_FALSE(driver.loop->counters().step_times);
  run_load(driver, 60);
  const auto fitted = driver.loop->counters().step_times;
  ASSERT_TRUE(fitted);
  EXPECT_NEAR(fitted->attention[0], 2, 1e-3);
  EXPECT_NEAR(fitted->attention[1], 0.05, 1e-5);
  EXPECT_NEAR(fitted->attention[2], 0.05, 1e-4);
  EXPECT_NEAR(fitted->service[2], 0.1, 1e-4);
}

TEST(StepLoopTimesTest, StepsWithDecodesKeepTheTarget) {
  constexpr double kTarget = 8;  // ms; full steps take 12
  for (const double target_ms : {0.0, kTarget}) {
    StepLoopOptions options = timed_options();
    options.former_options.target_itl_ms = target_ms;
    options.former_options.drain_steps = 1;  // the backlog asks for full steps
    LoopDriver driver(options, timed_executor(options));
    run_load(driver, 100);
    int over = 0;
    int mixed = 0;
    for (std::size_t i = 20; i < driver.executor.plans.size(); ++i) {
      const StepPlan& plan = driver.executor.plans[i];
      int decodes = 0;
      int prefill = 0;
      for (const SequenceStep& s : plan.sequences)
        (s.position >= s.prompt_tokens ? decodes : prefill) += s.rows;
      if (decodes == 0 || prefill <= options.page_tokens) continue;
      ++mixed;
      over += to_ms(time_of(plan)) > 1.02 * kTarget ? 1 : 0;
    }
    EXPECT_GT(mixed, 50);
    if (target_ms == 0) {
      EXPECT_GT(over, mixed / 2);
    } else {
      EXPECT_EQ(over, 0);
    }
  }
}

// A step that lost members says nothing of how long its rows take.
TEST(StepLoopTimesTest, StepsThatLoseMembersAreNotLearned) {
  const StepLoopOptions options = timed_options();
  LoopDriver driver(options, timed_executor(options));
  run_load(driver, 60);
  const auto before = driver.loop->counters().step_times;
  driver.executor.hold_leases = true;
  driver.submit({1, 2, 3}, 50);
  const RequestId leaves = driver.submit({4, 5, 6}, 50);
  for (int i = 0; i < 20; ++i)
    driver.run_step();
  const auto steps = driver.loop->counters().steps;
  driver.send(CancelRequest{leaves});
  const auto trained = driver.loop->counters().step_times;
  while (driver.loop->counters().steps == steps)
    ASSERT_TRUE(driver.deliver());
  EXPECT_EQ(driver.told.at(leaves).finish, FinishReason::kCancelled);
  ASSERT_TRUE(before && trained);
  EXPECT_EQ(driver.loop->counters().step_times->attention, trained->attention);
}

TEST(StepLoopTimesTest, SaysWhatRunsAndWhatHasEnded) {
  StepLoopOptions options = timed_options();
  options.record_prefix_events = true;
  LoopDriver driver(options, timed_executor(options));
  EXPECT_FALSE(driver.loop->counters().running_step);
  Request request{.id = driver.next_id(), .prompt = std::vector<TokenId>(20, 3), .max_tokens = 2};
  request.dispatch_sequence = 7;
  const TimePoint start = driver.now;
  driver.submit(request);
  auto counters = driver.loop->counters();
  ASSERT_TRUE(counters.running_step);
  EXPECT_EQ(counters.running_step->prefill, 20);
  EXPECT_EQ(counters.running_step->decodes, 0);
  EXPECT_EQ(counters.step_started, start);
  EXPECT_EQ(counters.dispatch_sequence, 7U);
  EXPECT_EQ(counters.finished_requests, 0U);
  driver.run_step();
  EXPECT_EQ(driver.loop->counters().running_step->decodes, 1);
  EXPECT_GT(driver.loop->counters().step_started, start);
  EXPECT_EQ(driver.loop->prefix_events().size(), 2U);  // of three pages those that are full
  driver.run_until_idle();
  const RequestId cancelled = driver.submit(std::vector<TokenId>(20, 4), 2);
  driver.send(CancelRequest{cancelled});
  driver.run_until_idle();
  counters = driver.loop->counters();
  EXPECT_FALSE(counters.running_step);
  EXPECT_EQ(counters.finished_requests, 1U);
  EXPECT_EQ(counters.finished_output_tokens, 2U);
  EXPECT_EQ(counters.pages_freed, 6U);
  EXPECT_EQ(counters.pages_evicted, 0U);
  EXPECT_EQ(counters.dispatch_sequence, 7U);
}

TEST(StepLoopTimesTest, TheBudgetOfAFormerIsSaid) {
  StepLoopOptions options = timed_options();
  options.former_options.prefill_floor = 24;
  EXPECT_EQ(prefill_budget(options),
            (policy::PrefillBudget{.drain_steps = 1, .floor = 24, .ceiling = 128}));
  options.former = "vllm";
  EXPECT_EQ(prefill_budget(options), (policy::PrefillBudget{.ceiling = 128}));
}

}  // namespace
}  // namespace gimbal::sched
