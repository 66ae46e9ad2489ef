// Requests that end in mid-step: cancelled ones, and those of a step that fails.

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sched/step_loop_fixture.h"

namespace gimbal::sched {
namespace {

TEST(StepLoopCancelTest, CancelOfAWaitingRequestIsImmediate) {
  LoopDriver driver(small_options());
  driver.submit(prompt(1, 6), 4);
  const RequestId waiting = driver.submit(prompt(2, 6), 4);
  EXPECT_EQ(driver.loop->counters().waiting_prefill_tokens, 6);
  driver.send(CancelRequest{waiting});
  EXPECT_EQ(driver.told[waiting].finish, FinishReason::kCancelled);
  EXPECT_EQ(driver.loop->counters().waiting_prefill_tokens, 0);
  EXPECT_EQ(std::count(driver.executor.log.begin(), driver.executor.log.end(), "yield"), 0);
}

class RunningPairTest : public ::testing::Test {
 protected:
  RunningPairTest() : driver(small_options()) {
    driver.executor.hold_leases = true;
    std::vector<Event> events;
    events.push_back(submit_event(driver, prompt(1, 8), 4));
    events.push_back(submit_event(driver, prompt(2, 4), 4));
    driver.send_together(std::move(events));
    driver.executor.log.clear();
  }
  LoopDriver driver;
  const RequestId first{1};
  const RequestId second{2};
};

TEST_F(RunningPairTest, CancelFreesPagesAtTheNextBoundary) {
  EXPECT_EQ(driver.loop->counters().pages_referenced, 3);
  driver.send(CancelRequest{first});
  driver.send(CancelRequest{first});
  EXPECT_FALSE(driver.told[first].finish);
  driver.deliver();  // StageReached
  EXPECT_EQ(driver.told[first].finish, FinishReason::kCancelled);
  EXPECT_EQ(driver.loop->counters().pages_referenced, 1);
  EXPECT_EQ(driver.executor.log.at(0), "yield");
  EXPECT_EQ(driver.executor.log.at(1), "drop");
  EXPECT_EQ(driver.executor.log.size(), 3U);  // and goes on: advance, or finish at the end
  driver.run_until_idle();
  EXPECT_EQ(driver.told[second].finish, FinishReason::kLength);
}

TEST_F(RunningPairTest, ABatchWithoutMembersIsGone) {
  driver.send_together([&] {
    std::vector<Event> events;
    events.push_back(CancelRequest{first});
    events.push_back(CancelRequest{second});
    return events;
  }());
  driver.deliver();
  EXPECT_TRUE(driver.loop->idle());
  EXPECT_FALSE(driver.executor.busy());
  EXPECT_EQ(driver.loop->counters().pages_referenced, 0);
  const RequestId third = driver.submit(prompt(3, 3), 2);
  driver.run_until_idle();
  EXPECT_EQ(driver.told[third].tokens.size(), 2U);
}

TEST_F(RunningPairTest, CancelWhileTokensAreChosenTellsNoToken) {
  driver.executor.release_lease();
  driver.deliver();  // StageReached at the end: finish is called
  driver.send(CancelRequest{first});
  EXPECT_EQ(std::count(driver.executor.log.begin(), driver.executor.log.end(), "yield"), 0);
  driver.deliver();  // StepFinished
  EXPECT_EQ(driver.told[first].finish, FinishReason::kCancelled);
  EXPECT_TRUE(driver.told[first].tokens.empty());
  EXPECT_EQ(driver.told[second].tokens.size(), 1U);
}

TEST_F(RunningPairTest, AFailedStepEndsItsRequestsOnly) {
  const RequestId third = driver.submit(prompt(3, 3), 2);
  driver.executor.fail("out of luck");
  driver.deliver();
  EXPECT_EQ(driver.told[first].finish, FinishReason::kFailed);
  EXPECT_EQ(driver.told[second].error, "out of luck");
  EXPECT_FALSE(driver.told.contains(third));
  EXPECT_EQ(driver.loop->counters().failed_steps, 1U);
}

}  // namespace
}  // namespace gimbal::sched
