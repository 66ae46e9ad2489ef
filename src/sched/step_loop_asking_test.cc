// A step loop that asks before its steps: what it says of the next one, and when.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "sched/loop_driver.h"

namespace gimbal::sched {
namespace {

class StepLoopAskingTest : public testing::Test {
 protected:
  static StepLoopOptions options() {
    StepLoopOptions options;
    options.max_model_len = 64;
    options.vocab_size = 97;
    options.kv_pages = 64;
    options.page_tokens = 8;
    options.asks_before_steps = true;
    return options;
  }

  // What the loop says after a request of so many prompt tokens has come.
  std::optional<policy::GangMember> intent_after(int prompt_tokens) {
    Request request{.id = driver_.next_id(), .max_tokens = 4};
    request.prompt.assign(static_cast<std::size_t>(prompt_tokens),
                          next_token_++);  // none is cached
    return driver_.loop->on(driver_.now, SubmitGroup{{std::move(request)}}).intent;
  }
  std::optional<policy::GangMember> start(std::uint64_t number) {
    return driver_.loop->on(driver_.now, StartStep{.number = number}).intent;
  }

  LoopDriver driver_{options()};
  TokenId next_token_ = 1;
};

TEST_F(StepLoopAskingTest, WhatHasComeSinceIsAskedForToo) {
  const auto first = intent_after(10);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->want, 10);
  const auto second = intent_after(20);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->want, 30);
  EXPECT_EQ(second->requests, 2);
  EXPECT_FALSE(driver_.loop->on(driver_.now, SetDraining{false}).intent);  // nothing new
}

TEST_F(StepLoopAskingTest, SaysHowLongTheStepIsExpectedToTake) {
  intent_after(10);
  driver_.loop->on(driver_.now, StartStep{.number = 1, .expected_ms = 12.5});
  EXPECT_EQ(driver_.loop->counters().step_expected_ms, 12.5);
}

TEST_F(StepLoopAskingTest, NothingIsAskedForWhileAStepRuns) {
  intent_after(10);
  EXPECT_FALSE(start(1));
  EXPECT_FALSE(intent_after(20));
  std::optional<policy::GangMember> next;
  while (!next) {
    if (driver_.executor.events.empty()) driver_.executor.release_lease();
    ASSERT_FALSE(driver_.executor.events.empty());
    Event event = std::move(driver_.executor.events.front());
    driver_.executor.events.pop_front();
    next = driver_.loop->on(driver_.now, std::move(event)).intent;
  }
  EXPECT_EQ(next->most, 20);
  EXPECT_EQ(next->decodes, 1);
}

}  // namespace
}  // namespace gimbal::sched
