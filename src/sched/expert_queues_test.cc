#include "sched/expert_queues.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/random.h"

namespace gimbal::sched {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr RequestClass kLs = RequestClass::kLatencySensitive;
constexpr RequestClass kBe = RequestClass::kBestEffort;

class ExpertQueuesTest : public testing::Test {
 protected:
  // Posts one row of `slot` to `experts`.
  void post(int slot, RequestClass request_class, std::vector<std::int32_t> experts, int layer = 0,
            int source = 0) {
    const PostedRow row{.slot = SourceSlot{slot},
                        .epoch = epoch_,
                        .row = slot,
                        .first_output = 10 * slot,
                        .request_class = request_class};
    queues_.post({.source = Rank{source},
                  .layer = LayerIndex{layer},
                  .step = step_,
                  .map_version = 3,
                  .rows = {&row, 1},
                  .experts = experts},
                 now_);
  }

  // (layer, expert, rows …) of the queues.
  std::vector<std::vector<int>> take(std::vector<int> queues) {
    queues_.take(queues, run_);
    std::vector<std::vector<int>> taken;
    for (const ExpertRun::Group& group : run_.groups) {
      taken.push_back({group.layer.value(), group.expert.value()});
      for (int i = group.first; i < group.first + group.count; ++i) {
        taken.back().push_back(run_.rows[static_cast<std::size_t>(i)]);
      }
    }
    return taken;
  }

  ExpertQueues queues_{{.layers = 2, .experts = 4, .max_entries = 8}};
  ExpertRun run_;
  std::uint32_t epoch_ = 0;
  std::uint64_t step_ = kSolo;
  TimePoint now_{};
};

TEST_F(ExpertQueuesTest, RowsOfAnExpertRunInTheOrderOfPosts) {
  post(5, kLs, {1, 2});
  post(3, kBe, {2, 3});
  post(4, kLs, {1, 2}, 0, 1);
  EXPECT_THAT(take({2, 0, 1}), ElementsAre(ElementsAre(0, 3, 3), ElementsAre(0, 1, 5, 4),
                                           ElementsAre(0, 2, 5, 3, 4)));
  EXPECT_EQ(queues_.entries(), 0);
  EXPECT_THAT(queues_.waiting(), IsEmpty());
}

TEST_F(ExpertQueuesTest, EntriesCarryTheirLabels) {
  epoch_ = 9;
  const PostedRow row{
      .slot = SourceSlot{7}, .epoch = 9, .row = 70, .first_output = 40, .request_class = kBe};
  const std::vector<std::int32_t> experts = {0, 3};
  queues_.post({.source = Rank{2},
                .layer = LayerIndex{1},
                .step = 6,
                .map_version = 5,
                .rows = {&row, 1},
                .experts = experts},
               now_);
  queues_.take(std::vector<int>{1}, run_);
  const ExpertEntry expected{.slot = SourceSlot{7},
                             .epoch = 9,
                             .row = 70,
                             .output = 41,
                             .map_version = 5,
                             .step = 6,
                             .source = 2,
                             .request_class = kBe};
  EXPECT_THAT(run_.entries, ElementsAre(expected));
  EXPECT_THAT(run_.rows, ElementsAre(70));
  EXPECT_THAT(run_.outputs, ElementsAre(41));
  EXPECT_EQ(run_.groups[0].expert, ExpertId{3});
  EXPECT_EQ(run_.groups[0].layer, LayerIndex{1});
}

TEST_F(ExpertQueuesTest, LayersHaveQueuesOfTheirOwn) {
  post(1, kLs, {2}, 0);
  post(2, kLs, {2}, 1);
  EXPECT_THAT(take({1}), ElementsAre(ElementsAre(1, 2, 2)));
  EXPECT_THAT(take({0}), ElementsAre(ElementsAre(0, 2, 1)));
}

TEST_F(ExpertQueuesTest, WaitingTellsClassesAndAges) {
  post(1, kBe, {0, 1});
  now_ += from_ms(1);
  post(2, kLs, {1, 2});
  ASSERT_EQ(queues_.waiting().size(), 3u);
  EXPECT_TRUE(queues_.waiting()[0].best_effort_only());
  EXPECT_EQ(queues_.waiting()[1].best_effort_rows, 1);
  EXPECT_EQ(queues_.waiting()[1].latency_sensitive_rows, 1);
  EXPECT_EQ(queues_.waiting()[1].oldest, TimePoint{});
  EXPECT_EQ(queues_.waiting()[2].oldest, now_);
}

// Of two sources the one whose mail is taken later may have posted earlier.
TEST_F(ExpertQueuesTest, ARunTellsSinceWhenTheOldestRowOfAnExpertWaits) {
  now_ += from_ms(5);
  post(1, kLs, {0, 1});
  now_ -= from_ms(3);
  post(2, kLs, {1, 2}, 0, 1);
  now_ += from_ms(4);
  post(3, kLs, {2});
  take({0, 1, 2});
  ASSERT_EQ(run_.groups.size(), 3u);
  EXPECT_EQ(run_.groups[0].oldest, TimePoint{} + from_ms(5));
  EXPECT_EQ(run_.groups[1].oldest, TimePoint{} + from_ms(2));
  EXPECT_EQ(run_.groups[2].oldest, TimePoint{} + from_ms(2));
  post(1, kLs, {2});  // nothing is left of what waited before
  take({0});
  EXPECT_EQ(run_.groups[0].oldest, TimePoint{} + from_ms(6));
}

TEST_F(ExpertQueuesTest, OnlyBestEffortQueuesCountRunsThatPassThemOver) {
  post(1, kBe, {0});
  post(2, kLs, {1});
  post(3, kLs, {2});
  take({1});
  ASSERT_EQ(queues_.waiting().size(), 2u);
  EXPECT_EQ(queues_.waiting()[0].deferred_runs, 1);
  EXPECT_EQ(queues_.waiting()[1].deferred_runs, 0);
  take({0});
  post(4, kBe, {0});
  EXPECT_EQ(queues_.waiting()[1].deferred_runs, 0);
}

TEST_F(ExpertQueuesTest, CancelRemovesOneEpochOfOneSlotOfOneSource) {
  post(1, kLs, {0, 1});
  post(2, kLs, {0, 2});
  post(1, kLs, {0}, 0, 1);
  epoch_ = 1;
  post(1, kBe, {0});
  EXPECT_EQ(queues_.cancel(Rank{0}, SourceSlot{1}, 0), 2);
  EXPECT_EQ(queues_.entries(), 4);
  ASSERT_EQ(queues_.waiting().size(), 2u);
  EXPECT_EQ(queues_.waiting()[0].best_effort_rows, 1);
  EXPECT_EQ(queues_.waiting()[0].latency_sensitive_rows, 2);
  EXPECT_EQ(queues_.cancel(Rank{0}, SourceSlot{1}, 0), 0);
  EXPECT_THAT(take({0}), ElementsAre(ElementsAre(0, 0, 2, 1, 1)));
  EXPECT_THAT(take({0}), ElementsAre(ElementsAre(0, 2, 2)));
}

TEST_F(ExpertQueuesTest, AQueueGoesOnAfterItsLastEntryWasCancelled) {
  post(1, kLs, {0});
  post(2, kLs, {0});
  queues_.cancel(Rank{0}, SourceSlot{2}, 0);
  post(3, kLs, {0});
  EXPECT_THAT(take({0}), ElementsAre(ElementsAre(0, 0, 1, 3)));
}

TEST_F(ExpertQueuesTest, RoomOfCancelledAndTakenEntriesIsUsedAgain) {
  post(1, kLs, {0, 1, 2, 3});
  for (int i = 0; i < 100; ++i) {
    post(2, kLs, {0, 1, 2});
    EXPECT_EQ(queues_.cancel(Rank{0}, SourceSlot{2}, 0), 3);
    post(3, kBe, {2, 3});
    take({3});
    take({2});
    post(1, kLs, {2, 3});
  }
  EXPECT_EQ(queues_.entries(), 4);
}

TEST_F(ExpertQueuesTest, NextAsksThePolicyAboutTheWaitingQueues) {
  const auto policy =
      policy::make_expert_queue_policy("ls-first", {.quantum = Duration::zero(), .max_defer = 1})
          .value();
  EXPECT_THAT(queues_.next(*policy, now_).run, IsEmpty());
  post(1, kBe, {0});
  take({0});
  queues_.note_time(run_, from_ms(1));
  post(1, kBe, {0});
  post(2, kLs, {1});
  EXPECT_THAT(queues_.next(*policy, now_).run, ElementsAre(1));
  take({1});
  post(3, kLs, {1});
  EXPECT_THAT(queues_.next(*policy, now_).run, ElementsAre(1, 0));
}

TEST_F(ExpertQueuesTest, LearnsWhatARunCosts) {
  Rng rng(5);
  for (int i = 0; i < 300; ++i) {
    std::vector<std::int32_t> experts = {0, 1, 2, 3};
    experts.resize(1 + rng.below(4));
    post(1, kBe, experts);
    if (rng.below(2) == 0) post(2, kBe, experts);
    std::vector<int> all(experts.size());
    std::iota(all.begin(), all.end(), 0);
    take(all);
    queues_.note_time(run_, from_ms(0.3 * static_cast<double>(run_.groups.size()) +
                                    0.05 * static_cast<double>(run_.entries.size())));
  }
  EXPECT_NEAR(queues_.cost().ms_per_expert, 0.3, 1e-3);
  EXPECT_NEAR(queues_.cost().ms_per_row, 0.05, 1e-3);
  queues_.note_time(run_, Duration::zero());  // a clock that stood still
  EXPECT_GE(queues_.cost().ms_per_row, 0);
}

TEST_F(ExpertQueuesTest, RowsOfGangStepsAreNotLeftForLater) {
  const auto policy =
      policy::make_expert_queue_policy("ls-first", {.quantum = Duration::zero()}).value();
  post(1, kBe, {0});
  take({0});
  queues_.note_time(run_, from_ms(1));
  step_ = 7;
  post(1, kBe, {0});
  step_ = kSolo;
  post(2, kBe, {1});
  post(3, kLs, {2});
  EXPECT_THAT(queues_.next(*policy, now_).run, ElementsAre(2, 0));
  EXPECT_EQ(queues_.waiting()[0].gang_rows, 1);
  EXPECT_EQ(queues_.cancel(Rank{0}, SourceSlot{1}, 0), 1);
  EXPECT_EQ(queues_.waiting().size(), 2U);
}

using ExpertQueuesDeathTest = ExpertQueuesTest;

TEST_F(ExpertQueuesDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(post(0, kLs, {4}), "");
  EXPECT_DEATH(post(0, kLs, {-1}), "");
  EXPECT_DEATH(post(0, kLs, {0}, 2), "");
  post(0, kLs, {0, 1, 2, 3});
  EXPECT_DEATH(post(1, kLs, {0, 1, 2, 3, 3}), "room");
  EXPECT_DEATH(take({0, 0}), "");
  EXPECT_DEATH(take({4}), "");
  EXPECT_DEATH(take({}), "");
}

}  // namespace
}  // namespace gimbal::sched
