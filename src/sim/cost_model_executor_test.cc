#include "sim/cost_model_executor.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/random.h"
#include "sim/step_level_runner.h"
#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

using sched::StageReached;
using sched::StepFinished;

// Executors of a group of plain devices, driven by hand: a pass of n rows takes
// 4·(100 + 10·n + 50) µs, with several devices 4·10 µs more, and 1 000 µs at its end.
class CostModelExecutorTest : public ::testing::Test {
 protected:
  struct Owner final : public ExecutorOwner {
    explicit Owner(EventQueue& where) : queue(where) {}
    [[nodiscard]] int topic_of(RequestId) const override { return 0; }
    void on_executor_event(sched::Event event) override {
      times.push_back(to_ms(queue.now().time_since_epoch()));
      events.push_back(std::move(event));
    }
    EventQueue& queue;
    std::vector<double> times;
    std::vector<sched::Event> events;
  };

  void make(int ranks) {
    testbed_ = plain_testbed(uniform_cluster(ranks, ranks).value());
    const GroupHardware& hardware = testbed_->hardware(0);
    costs_.emplace(hardware.model, hardware.loads, cost::Tier::kSameNode);
    runner_.emplace(queue_, *costs_);
    for (int rank = 0; rank < ranks; ++rank) {
      owners_.push_back(std::make_unique<Owner>(queue_));
      executors_.push_back(std::make_unique<CostModelExecutor>(
          CostModelExecutor::Collaborators{
              .queue = queue_, .runner = *runner_, .costs = *costs_, .owner = *owners_.back()},
          Rank{rank}, 1000));
    }
  }
  CostModelExecutor& executor(int rank = 0) { return *executors_[static_cast<std::size_t>(rank)]; }
  Owner& owner(int rank = 0) { return *owners_[static_cast<std::size_t>(rank)]; }

  // A batch of prompts with these many rows each, requests numbered from `first`.
  sched::StepPlan plan(std::uint32_t batch, std::vector<int> rows, std::uint64_t first,
                       std::uint64_t gang_step = sched::kSolo) {
    static const std::vector<TokenId> tokens(1000, 1);
    sched::StepPlan made;
    made.batch = BatchId{batch};
    made.gang_step = gang_step;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto known = static_cast<std::size_t>(rows[i]);
      made.sequences.push_back({.request = RequestId{first + i},
                                .tokens = std::span(tokens).first(known),
                                .rows = rows[i],
                                .prompt_tokens = rows[i],
                                .samples = true});
    }
    return made;
  }
  void run() {
    while (queue_.run_one()) {
    }
  }
  [[nodiscard]] double now_ms() const { return to_ms(queue_.now().time_since_epoch()); }
  // The event, which must be of that kind.
  template <class Event>
  const Event& event(std::size_t index, int rank = 0) {
    return std::get<Event>(owner(rank).events.at(index));
  }
  static Cursor end() { return Cursor::end(4); }

  EventQueue queue_;
  std::unique_ptr<Testbed> testbed_;
  std::optional<PassCosts> costs_;
  std::optional<StepLevelRunner> runner_;
  std::vector<std::unique_ptr<Owner>> owners_;
  std::vector<std::unique_ptr<CostModelExecutor>> executors_;
};

TEST_F(CostModelExecutorTest, APassTakesWhatTheCostsSay) {
  make(1);
  executor().start(plan(1, {3, 1}, 10));
  executor().advance(BatchId{1}, end());
  run();
  ASSERT_EQ(owner().events.size(), 1U);
  EXPECT_EQ(event<StageReached>(0).cursor, end());
  EXPECT_NEAR(owner().times[0], 4 * 0.19, 1e-5);
  executor().finish(BatchId{1});
  run();
  ASSERT_EQ(owner().events.size(), 2U);
  EXPECT_NEAR(owner().times[1], 4 * 0.19 + 1, 1e-5);
  const StepFinished& finished = event<StepFinished>(1);
  EXPECT_NEAR(to_ms(finished.attention), 4 * 0.14 + 1, 1e-5);
  EXPECT_NEAR(to_ms(finished.service), 4 * 0.05, 1e-5);
  EXPECT_NEAR(to_ms(finished.wait), 0, 1e-5);
  ASSERT_EQ(finished.sequences.size(), 2U);
  EXPECT_EQ(finished.sequences[0].request, RequestId{10});
  EXPECT_EQ(finished.sequences[0].token, simulated_token(RequestId{10}, 3, 1000));
  EXPECT_FALSE(finished.sequences[0].finish);
  EXPECT_GT(finished.distinct_experts, 0);
  EXPECT_EQ(executor().totals().rows, 4U);
  EXPECT_EQ(executor().totals().prefill_rows, 4U);
  EXPECT_EQ(runner_->passes(), 0);
}

TEST_F(CostModelExecutorTest, LeasesEndAtTheirBoundaries) {
  make(1);
  executor().start(plan(1, {4}, 1));
  executor().advance(BatchId{1}, Cursor{LayerIndex{1}, Stage::kExperts});
  run();
  EXPECT_NEAR(now_ms(), 0.19 + 0.14, 1e-5);
  EXPECT_EQ(event<StageReached>(0).cursor, (Cursor{LayerIndex{1}, Stage::kExperts}));
  executor().advance(BatchId{1}, end());
  run();
  EXPECT_NEAR(now_ms(), 4 * 0.19, 1e-5);
}

TEST_F(CostModelExecutorTest, AYieldEndsTheLeaseAtTheNextBoundary) {
  make(1);
  executor().start(plan(1, {4}, 1));
  executor().advance(BatchId{1}, end());
  struct Late final : public EventTarget {
    explicit Late(CostModelExecutor& which) : executor(which) {}
    void on_event(std::uint64_t) override { executor.yield(BatchId{1}); }
    CostModelExecutor& executor;
  } late(executor());
  queue_.at(TimePoint{from_ms(0.2)}, late, 0);  // in the second layer's attention
  run();
  ASSERT_EQ(owner().events.size(), 1U);
  EXPECT_EQ(event<StageReached>(0).cursor, (Cursor{LayerIndex{1}, Stage::kRouter}));
  EXPECT_NEAR(owner().times[0], 0.19 + 0.9 * 0.14, 1e-5);
  executor().yield(BatchId{1});  // stands there already
  run();
  EXPECT_EQ(owner().events.size(), 1U);
}

TEST_F(CostModelExecutorTest, DroppedRowsTakeNoMoreTime) {
  make(1);
  executor().start(plan(1, {4, 6}, 1));
  executor().advance(BatchId{1}, Cursor{LayerIndex{2}});
  run();
  EXPECT_NEAR(now_ms(), 2 * 0.25, 1e-5);
  const RequestId dropped[] = {RequestId{2}};
  executor().drop(BatchId{1}, dropped);
  executor().advance(BatchId{1}, end());
  run();
  EXPECT_NEAR(now_ms(), 2 * 0.25 + 2 * 0.19, 1e-5);
  const RequestId last[] = {RequestId{1}};
  executor().drop(BatchId{1}, last);
  EXPECT_EQ(runner_->passes(), 0);
}

TEST_F(CostModelExecutorTest, ParkedBatchesKeepTheirPlaceAndMerge) {
  make(1);
  executor().start(plan(1, {4}, 1));
  executor().advance(BatchId{1}, Cursor{LayerIndex{2}});
  run();
  executor().suspend(BatchId{1});
  executor().start(plan(2, {6}, 2));
  executor().advance(BatchId{2}, Cursor{LayerIndex{2}});
  run();
  EXPECT_NEAR(now_ms(), 2 * 0.19 + 2 * 0.21, 1e-5);
  executor().resume(BatchId{1});
  executor().merge(BatchId{2}, BatchId{1});
  executor().advance(BatchId{2}, end());
  run();
  EXPECT_NEAR(now_ms(), 2 * 0.19 + 2 * 0.21 + 2 * 0.25, 1e-5);
  executor().finish(BatchId{2});
  run();
  const auto& finished = std::get<StepFinished>(owner().events.back());
  ASSERT_EQ(finished.sequences.size(), 2U);
  EXPECT_EQ(finished.sequences[1].request, RequestId{1});
  EXPECT_NEAR(to_ms(finished.attention), 2 * 0.14 + 2 * 0.16 + 2 * 0.2 + 1, 1e-5);
}

TEST_F(CostModelExecutorTest, ASplitBatchGoesItsOwnWay) {
  make(1);
  executor().start(plan(1, {4, 6}, 1));
  executor().advance(BatchId{1}, Cursor{LayerIndex{2}});
  run();
  const RequestId moved[] = {RequestId{1}};
  executor().split(BatchId{1}, moved, BatchId{2});
  executor().suspend(BatchId{1});
  executor().advance(BatchId{2}, end());
  run();
  EXPECT_NEAR(now_ms(), 2 * 0.25 + 2 * 0.19, 1e-5);
  executor().resume(BatchId{1});
  executor().advance(BatchId{1}, end());
  run();
  EXPECT_NEAR(now_ms(), 2 * 0.25 + 2 * 0.19 + 2 * 0.21, 1e-5);
  executor().finish(BatchId{1});
  executor().finish(BatchId{2});
  run();
  EXPECT_EQ(owner().events.size(), 5U);
}

TEST_F(CostModelExecutorTest, MembersOfAGangStepWaitForTheSlowest) {
  make(2);
  runner_->expect(1, 0b11);
  executor(0).start(plan(1, {4}, 1, 1));
  executor(0).advance(BatchId{1}, end());
  run();
  EXPECT_TRUE(owner(0).events.empty());  // the other has not come
  executor(1).start(plan(1, {10}, 2, 1));
  executor(1).advance(BatchId{1}, end());
  run();
  EXPECT_NEAR(owner(0).times.at(0), 4 * 0.26, 1e-4);
  EXPECT_NEAR(owner(1).times.at(0), 4 * 0.26, 1e-4);
  executor(0).finish(BatchId{1});
  run();
  const StepFinished& finished = event<StepFinished>(1, 0);
  EXPECT_NEAR(to_ms(finished.attention), 4 * 0.14 + 1, 1e-4);
  // Of two services' 50 µs a layer its rows are four of fourteen.
  EXPECT_NEAR(to_ms(finished.service), 4 * 0.1 * 4 / 14, 1e-4);
  EXPECT_NEAR(to_ms(finished.wait), 4 * 0.26 - 4 * 0.14 - 4 * 0.1 * 4 / 14, 1e-4);
}

TEST_F(CostModelExecutorTest, WhoLeavesAGangStepHoldsNobodyUp) {
  make(2);
  runner_->expect(1, 0b11);
  executor(0).start(plan(1, {4}, 1, 1));
  executor(0).advance(BatchId{1}, end());
  runner_->leave(1, Rank{1});
  run();
  EXPECT_NEAR(owner(0).times.at(0), 4 * 0.2, 1e-4);
  // In mid-step: the other goes on at its own pace.
  const double before = now_ms();
  runner_->expect(2, 0b11);
  executor(0).start(plan(2, {4}, 1, 2));
  executor(1).start(plan(2, {10}, 2, 2));
  executor(0).advance(BatchId{2}, end());
  executor(1).advance(BatchId{2}, Cursor{LayerIndex{2}});
  run();
  EXPECT_NEAR(now_ms(), before + 2 * 0.26, 1e-4);  // it waits for the one that stands
  EXPECT_EQ(owner(0).events.size(), 1U);
  executor(1).suspend(BatchId{2});
  run();
  EXPECT_NEAR(now_ms(), before + 2 * 0.26 + 2 * 0.2, 1e-4);
  executor(1).resume(BatchId{2});
  executor(1).advance(BatchId{2}, end());
  run();
  EXPECT_NEAR(now_ms(), before + 2 * 0.26 + 2 * 0.2 + 2 * 0.26, 1e-4);
  executor(0).finish(BatchId{2});
  executor(1).finish(BatchId{2});
  run();
}

TEST_F(CostModelExecutorTest, ADeviceThatHangsHoldsItsGangUpUntilItIsGivenUp) {
  make(2);
  runner_->expect(1, 0b11);
  executor(0).start(plan(1, {4}, 1, 1));
  executor(1).start(plan(1, {10}, 2, 1));
  executor(0).advance(BatchId{1}, end());
  executor(1).advance(BatchId{1}, end());
  executor(1).hang();
  run();
  EXPECT_TRUE(owner(0).events.empty());
  executor(1).stop();
  run();
  EXPECT_EQ(owner(0).events.size(), 1U);
  EXPECT_TRUE(owner(1).events.empty());
}

TEST_F(CostModelExecutorTest, SoloPassesAtTheSameTimeHinderEachOther) {
  make(2);
  executor(0).start(plan(1, {4}, 1));
  executor(0).advance(BatchId{1}, end());
  run();
  const double alone = owner(0).times.at(0);
  executor(0).finish(BatchId{1});
  run();
  const double before = now_ms();
  executor(0).start(plan(2, {4}, 1));
  executor(0).advance(BatchId{2}, end());
  executor(1).start(plan(2, {4}, 2));
  executor(1).advance(BatchId{2}, end());
  run();
  EXPECT_GT(owner(0).times.at(2) - before, 1.05 * alone);
  EXPECT_LT(owner(0).times.at(2) - before, 2 * alone);
  EXPECT_DOUBLE_EQ(owner(0).times.at(2), owner(1).times.at(0));
}

TEST(SimulatedTokenTest, IsAFixedStreamWithinTheVocabulary) {
  int different = 0;
  for (int position = 0; position < 100; ++position) {
    const TokenId token = simulated_token(RequestId{7}, position, 50);
    EXPECT_GE(token, 0);
    EXPECT_LT(token, 50);
    EXPECT_EQ(token, simulated_token(RequestId{7}, position, 50));
    different += token != simulated_token(RequestId{8}, position, 50) ? 1 : 0;
  }
  EXPECT_GT(different, 80);
}

}  // namespace
}  // namespace gimbal::sim
