#include "cluster/gang_rank.h"

#include <gtest/gtest.h>

#include <variant>

namespace gimbal::cluster {
namespace {

sched::Outputs wants_step() {
  sched::Outputs outputs;
  outputs.intent.emplace();
  outputs.intent->want = 7;
  return outputs;
}

sched::Outputs ended(std::uint64_t number, RankSet members, bool declined, bool has_work) {
  sched::Outputs outputs;
  if (has_work) outputs = wants_step();
  outputs.ended = sched::StartStep{.number = number, .members = members};
  outputs.declined = declined;
  return outputs;
}

class GangRankTest : public ::testing::Test {
 protected:
  template <class Event>
  const Event& event(std::size_t index) {
    return std::get<Event>(orders_.events.at(index));
  }
  GangRank rank_{Rank{2}};
  GangOrders orders_;
};

TEST_F(GangRankTest, AnIntentGetsItsAnswer) {
  rank_.said(wants_step(), orders_);
  ASSERT_EQ(orders_.events.size(), 1U);
  EXPECT_EQ(event<GangIntent>(0).member.rank, Rank{2});
  EXPECT_EQ(event<GangIntent>(0).member.want, 7);
  EXPECT_EQ(event<GangIntent>(0).last_seen, 0U);
  EXPECT_TRUE(rank_.asking());
  rank_.follow({.number = 5, .members = 0b101, .budget = 3, .expected_ms = 12}, orders_);
  EXPECT_FALSE(rank_.asking());
  ASSERT_TRUE(orders_.start);
  EXPECT_EQ(orders_.start->number, 5U);
  EXPECT_EQ(orders_.start->members, 0b101U);
  EXPECT_EQ(orders_.start->prefill_budget, 3);
  EXPECT_EQ(orders_.start->expected_ms, 12);
  EXPECT_TRUE(orders_.events.empty());
  rank_.said(ended(5, 0b101, false, true), orders_);
  ASSERT_EQ(orders_.events.size(), 2U);
  EXPECT_TRUE(event<GangStepEnded>(0).has_work);
  EXPECT_EQ(event<GangIntent>(1).last_seen, 5U);
}

TEST_F(GangRankTest, ADeclinedStepIsLeft) {
  rank_.said(wants_step(), orders_);
  rank_.follow({.number = 5, .members = 0b101}, orders_);
  rank_.said(ended(5, 0b101, true, false), orders_);
  ASSERT_TRUE(orders_.leave);
  EXPECT_EQ(orders_.leave->number, 5U);
  EXPECT_EQ(event<GangLeft>(0).reason, LeaveReason::kNoWork);
}

TEST_F(GangRankTest, ADeclinedSoloStepHasEnded) {
  rank_.said(wants_step(), orders_);
  rank_.follow({.number = 5}, orders_);
  rank_.said(ended(5, 0, true, false), orders_);
  EXPECT_FALSE(orders_.leave);
  EXPECT_FALSE(event<GangStepEnded>(0).has_work);
}

TEST_F(GangRankTest, AnswersThatCameTooLateAreLeft) {
  rank_.follow({.number = 4, .members = 0b110}, orders_);
  EXPECT_FALSE(orders_.start);
  ASSERT_TRUE(orders_.leave);
  EXPECT_EQ(event<GangLeft>(0).number, 4U);
  rank_.follow({.number = 6}, orders_);
  EXPECT_FALSE(orders_.leave);
  EXPECT_EQ(event<GangStepEnded>(0).number, 6U);
}

TEST_F(GangRankTest, AnIntentDuringADummyStepIsHeldBack) {
  rank_.follow({.number = 4, .members = 0b110, .dummy = true}, orders_);
  ASSERT_TRUE(orders_.dummy);
  EXPECT_TRUE(rank_.in_dummy());
  rank_.said(wants_step(), orders_);
  EXPECT_TRUE(orders_.events.empty());
  EXPECT_FALSE(rank_.asking());
  rank_.dummy_ended(orders_);
  ASSERT_EQ(orders_.events.size(), 2U);
  EXPECT_TRUE(event<GangStepEnded>(0).has_work);
  EXPECT_EQ(event<GangIntent>(1).last_seen, 4U);
  EXPECT_FALSE(rank_.in_dummy());
  EXPECT_TRUE(rank_.asking());
}

TEST_F(GangRankTest, WorkTakesADummysPlace) {
  rank_.said(wants_step(), orders_);
  rank_.follow({.number = 4, .members = 0b110, .dummy = true}, orders_);
  EXPECT_FALSE(orders_.dummy);
  EXPECT_TRUE(orders_.start);
}

TEST(GangAnswerTest, BudgetsHoldInGangsAlone) {
  const GangStart start{.rank = Rank{1},
                        .number = 3,
                        .members = 0b11,
                        .dummies = 0b01,
                        .budget = 9,
                        .hold_limit = from_ms(7)};
  EXPECT_EQ(answer_of(start, GangPace::kGang),
            (GangAnswer{.number = 3, .members = 0b11, .budget = 9, .hold_limit = from_ms(7)}));
  EXPECT_EQ(answer_of(start, GangPace::kLockstep),
            (GangAnswer{.number = 3, .members = 0b11, .hold_limit = from_ms(7)}));
  GangStart dummy = start;
  dummy.rank = Rank{0};
  EXPECT_TRUE(answer_of(dummy, GangPace::kLockstep).dummy);
  EXPECT_EQ(answer_of(GangSolo{.rank = Rank{1}, .number = 8, .expected_ms = 5}),
            (GangAnswer{.number = 8, .expected_ms = 5}));
}

}  // namespace
}  // namespace gimbal::cluster
