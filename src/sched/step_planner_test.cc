#include "sched/step_planner.h"

#include <gtest/gtest.h>

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace gimbal::sched {
namespace {

// A planner whose steps succeed at once; pages of one token.
class StepPlannerTest : public ::testing::Test {
 protected:
  void use(int pages, int max_rows = 64, std::string_view former = "vllm",
           bool prefix_caching = false) {
    options_.max_model_len = pages;
    options_.kv_pages = pages;
    options_.page_tokens = 1;
    options_.max_num_batched_tokens = max_rows;
    options_.prefix_caching = prefix_caching;
    order_ = std::move(policy::make_request_order("fcfs", {})).value();
    former_ = std::move(policy::make_batch_former(former, {})).value();
    cache_ = std::make_unique<kv::KvCache>(
        kv::KvCacheOptions{.pages = pages, .page_tokens = 1, .prefix_caching = prefix_caching});
    planner_ =
        std::make_unique<StepPlanner>(options_, StepPlanner::Collaborators{.order = *order_,
                                                                           .former = *former_,
                                                                           .table = table_,
                                                                           .cache = *cache_,
                                                                           .times = times_});
  }

  Sequence& submit(int prompt_tokens,
                   RequestClass request_class = RequestClass::kLatencySensitive) {
    Request request;
    request.id = RequestId{table_.size() + 1};
    request.prompt.assign(static_cast<std::size_t>(prompt_tokens), 1);
    request.max_tokens = 1000;
    request.request_class = request_class;
    now_ += from_ms(1);
    Sequence& sequence = table_.add(std::move(request), now_, options_.max_model_len);
    planner_->enqueue(sequence, now_, {});
    return sequence;
  }

  // Plans a step and carries it out. Returns its rows by request.
  std::vector<std::pair<std::uint64_t, int>> step() {
    EXPECT_TRUE(planner_->plan(now_, ++steps_, plan_));
    std::vector<std::pair<std::uint64_t, int>> rows;
    for (const SequenceStep& member : plan_.sequences) {
      rows.emplace_back(member.request.value(), member.rows);
      Sequence& sequence = table_.at(member.request);
      planner_->commit(sequence, member.position + member.rows, now_);
      if (!member.samples) continue;
      sequence.tokens.push_back(1);
      sequence.phase = Phase::kDecode;
      sequence.evicted_since_token = false;
    }
    return rows;
  }

  StepLoopOptions options_;
  std::unique_ptr<policy::RequestOrder> order_;
  std::unique_ptr<policy::BatchFormer> former_;
  policy::StepTimeModel times_;
  RequestTable table_;
  std::unique_ptr<kv::KvCache> cache_;
  std::unique_ptr<StepPlanner> planner_;
  StepPlan plan_;
  TimePoint now_{};
  std::uint64_t steps_ = 0;
};

using Rows = std::vector<std::pair<std::uint64_t, int>>;
constexpr RequestClass kBestEffort = RequestClass::kBestEffort;

TEST_F(StepPlannerTest, NothingToDoIsNoPlan) {
  use(8);
  EXPECT_FALSE(planner_->plan(now_, 1, plan_));
}

TEST_F(StepPlannerTest, AdmissionLeavesAPageForEachRunningDecode) {
  use(10);
  submit(3);
  submit(3);
  EXPECT_EQ(step(), (Rows{{1, 3}, {2, 3}}));  // 4 pages are left, 2 of them for the decodes
  submit(3);
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 1}}));
  Sequence& second = table_.at(RequestId{2});
  planner_->remove(second, now_);  // 6 free, one of them for a decode
  EXPECT_EQ(step(), (Rows{{1, 1}, {3, 3}}));
}

TEST_F(StepPlannerTest, TheLatestArrivalIsEvictedAndKeepsItsRank) {
  use(8);
  submit(3);
  const Sequence& second = submit(3);
  step();
  step();                             // 4 + 4 pages
  const Sequence& third = submit(1);  // waits behind it
  EXPECT_EQ(step(), (Rows{{1, 1}}));
  EXPECT_EQ(second.phase, Phase::kWaiting);
  EXPECT_EQ(second.computed, 0);
  EXPECT_EQ(planner_->totals().evictions, 1U);
  EXPECT_EQ(planner_->queues().prefill_tokens(), 5 + 1);
  std::vector<RequestId> admitted;
  std::vector<RequestId> evicted;
  planner_->take_moves(admitted, evicted);
  EXPECT_EQ(admitted, (std::vector{RequestId{1}, RequestId{2}}));
  EXPECT_EQ(evicted, (std::vector{RequestId{2}}));
  planner_->remove(table_.at(RequestId{1}), now_);
  EXPECT_EQ(step(), (Rows{{2, 5}, {3, 1}}));
  admitted.clear();
  planner_->take_moves(admitted, evicted);
  EXPECT_EQ(admitted, (std::vector{RequestId{2}, RequestId{3}}));  // again, and for the first time
  EXPECT_EQ(evicted.size(), 1U);
  EXPECT_EQ(planner_->totals().recomputed_tokens, 4U);
  EXPECT_EQ(third.phase, Phase::kDecode);
}

TEST_F(StepPlannerTest, BestEffortIsEvictedBeforeLaterArrivals) {
  use(8);
  const Sequence& first = submit(3, kBestEffort);
  submit(3);
  step();
  step();
  EXPECT_EQ(step(), (Rows{{2, 1}}));
  EXPECT_EQ(first.phase, Phase::kWaiting);
}

TEST_F(StepPlannerTest, TheRequesterMayBeTheVictim) {
  use(9);
  submit(5);
  submit(1);
  step();
  step();  // 6 + 2 pages: the first takes the last one
  EXPECT_EQ(step(), (Rows{{1, 1}}));
  EXPECT_EQ(table_.at(RequestId{2}).phase, Phase::kWaiting);
}

TEST_F(StepPlannerTest, OneThatWasEvictedIsSparedUntilItHasMadeAToken) {
  use(8);
  Sequence& first = submit(3);
  Sequence& second = submit(3);
  step();
  step();
  second.evicted_since_token = true;
  EXPECT_EQ(step(), (Rows{{2, 1}}));  // it is the earlier arrival that has to go
  EXPECT_EQ(first.phase, Phase::kWaiting);
  EXPECT_FALSE(second.evicted_since_token);
}

TEST_F(StepPlannerTest, UnlessAllHaveBeenEvicted) {
  use(8);
  Sequence& first = submit(3);
  Sequence& second = submit(3);
  step();
  step();
  first.evicted_since_token = second.evicted_since_token = true;
  EXPECT_EQ(step(), (Rows{{1, 1}}));
}

TEST_F(StepPlannerTest, NobodyIsAdmittedInAStepThatEvicts) {
  use(9);
  submit(3);
  submit(5);
  EXPECT_EQ(step(), (Rows{{1, 3}, {2, 5}}));
  submit(1);
  EXPECT_EQ(step(), (Rows{{1, 1}}));  // the second had 5 pages; the third waits all the same
  EXPECT_EQ(planner_->totals().evictions, 1U);
}

TEST_F(StepPlannerTest, PlansForTheOthersWhenTheOnlyOneServedIsEvicted) {
  use(9, 1, "tgi");
  submit(1);
  submit(1);
  for (int i = 0; i < 9; ++i)
    step();  // in turn: 5 + 4 pages, and the second is served next
  EXPECT_EQ(step(), (Rows{{1, 1}}));
  EXPECT_EQ(table_.at(RequestId{2}).phase, Phase::kWaiting);
  EXPECT_EQ(planner_->totals().evictions, 1U);
}

TEST_F(StepPlannerTest, BestEffortMakesRoomForALatencySensitiveHead) {
  use(12, 64, "gimbal");
  const Sequence& first = submit(6, kBestEffort);
  const Sequence& second = submit(3, kBestEffort);
  EXPECT_EQ(step(), (Rows{{1, 6}, {2, 3}}));
  const policy::OrderKey key = second.key;
  submit(4);  // lacks 1 of the free 3 and 2 more for the decodes; the second has 4 with its own
  EXPECT_EQ(step(), (Rows{{1, 1}, {3, 4}}));
  EXPECT_EQ(first.phase, Phase::kDecode);
  EXPECT_EQ(second.phase, Phase::kWaiting);
  EXPECT_EQ(second.key, key);
  EXPECT_EQ(planner_->totals().evictions_for_heads, 1U);
  EXPECT_EQ(planner_->totals().evictions, 1U);
}

TEST_F(StepPlannerTest, ButOnlyIfThatIsEnough) {
  use(12, 64, "gimbal");
  submit(4);
  submit(4, kBestEffort);
  step();
  submit(9);  // 4 free, 4 and a decode's of the best-effort one: it would lack one page more
  EXPECT_EQ(step(), (Rows{{2, 1}, {1, 1}}));
  EXPECT_EQ(planner_->totals().evictions, 0U);
}

TEST_F(StepPlannerTest, OneThatMadeRoomIsSparedUntilItHasMadeAToken) {
  use(12, 64, "gimbal");
  Sequence& only = submit(6, kBestEffort);
  step();
  submit(8);
  only.evicted_since_token = true;
  EXPECT_EQ(step(), (Rows{{1, 1}}));  // makes its token
  EXPECT_EQ(step(), (Rows{{2, 8}}));
  EXPECT_EQ(only.phase, Phase::kWaiting);
}

TEST_F(StepPlannerTest, OtherFormersEvictForNoHead) {
  use(12, 64, "vllm");
  submit(6, kBestEffort);
  step();
  submit(8);
  EXPECT_EQ(step(), (Rows{{1, 1}}));
  EXPECT_EQ(planner_->totals().evictions, 0U);
}

// The head's prefix is in the victim's pages: once nobody refers to them they count as free, and
// the head takes them.
TEST_F(StepPlannerTest, PagesSharedWithTheHeadAreNoGain) {
  for (const bool alone : {true, false}) {
    for (std::uint64_t id = table_.size(); id > 0; --id)
      table_.erase(RequestId{id});
    use(14, 64, "gimbal", true);
    if (!alone) submit(1);
    submit(8, kBestEffort);
    step();
    submit(14);  // hits 8 pages
    step();
    EXPECT_EQ(planner_->totals().evictions, alone ? 1U : 0U);
  }
}

TEST_F(StepPlannerTest, TokensDoNotMoveWhileASequenceHoldsPages) {
  use(64);
  Sequence& sequence = submit(3);
  step();
  const TokenId* at = sequence.tokens.data();
  while (sequence.known() < 60)
    step();
  EXPECT_EQ(sequence.tokens.data(), at);
}

}  // namespace
}  // namespace gimbal::sched
