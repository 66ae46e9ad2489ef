#include "cluster/gang_coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

namespace gimbal::cluster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A coordinator of three ranks; times are ms since the start. Commands are shown as text:
// "start RANK #NUMBER MEMBERS", "solo RANK #NUMBER REASON", "wake MS".
class GangCoordinatorTest : public testing::Test {
 protected:
  void make(GangPace pace, std::string_view planner = "as-wanted", int ranks = 3,
            double patience = 1) {
    planner_ = policy::make_gang_planner(planner, {}).value();
    coordinator_ = std::make_unique<GangCoordinator>(
        GangCoordinatorOptions{.pace = pace, .ranks = ranks, .patience = patience}, *planner_);
  }
  void SetUp() override { make(GangPace::kGang); }

  std::vector<std::string> on(double ms, const GangEvent& event) {
    coordinator_->on(event, TimePoint{} + from_ms(ms), commands_);
    std::vector<std::string> shown;
    for (const GangCommand& command : commands_) {
      if (const auto* start = std::get_if<GangStart>(&command)) {
        seen_[start->rank.value()] = start->number;
        shown.push_back("start " + std::to_string(start->rank.value()) + " #" +
                        std::to_string(start->number) + " " + set(start->members));
        if (start->dummies != 0) shown.back() += " dummies " + set(start->dummies);
      } else if (const auto* solo = std::get_if<GangSolo>(&command)) {
        seen_[solo->rank.value()] = solo->number;
        shown.push_back("solo " + std::to_string(solo->rank.value()) + " #" +
                        std::to_string(solo->number) + " " + std::string(to_string(solo->reason)));
      } else {
        const double at = to_ms(std::get<GangWake>(command).at - TimePoint{});
        shown.push_back("wake " + std::to_string(at).substr(0, std::to_string(at).find('.') + 3));
      }
    }
    return shown;
  }
  static std::string set(RankSet ranks) {
    std::string shown = "{";
    for (int rank = 0; rank < 8; ++rank) {
      if ((ranks >> rank & 1) != 0) shown += std::to_string(rank);
    }
    return shown + "}";
  }

  std::vector<std::string> intent(double ms, int rank, int want = 0) {
    policy::GangMember member{.rank = Rank{rank}, .decodes = 1, .want = want, .most = want};
    member.max_rows = 1000;
    return on(ms, GangIntent{.member = member, .last_seen = seen_[rank]});
  }
  // `rank` decodes for `alone_ms`, as its model says.
  std::vector<std::string> timed_intent(double ms, int rank, double alone_ms, int want = 0,
                                        bool latency_sensitive = true) {
    policy::GangMember member{.rank = Rank{rank}, .decodes = 1, .want = want, .most = want};
    member.max_rows = 1000;
    member.latency_sensitive = latency_sensitive;
    member.times.emplace();
    member.times->coefficients.attention = {alone_ms, 0.1, 0, 0, 0};
    return on(ms, GangIntent{.member = member, .last_seen = seen_[rank]});
  }
  std::vector<std::string> ended(double ms, int rank, bool has_work = true) {
    return on(ms, GangStepEnded{Rank{rank}, seen_[rank], has_work});
  }

  std::unique_ptr<policy::GangPlanner> planner_;
  std::unique_ptr<GangCoordinator> coordinator_;
  std::vector<GangCommand> commands_;
  std::array<std::uint64_t, 8> seen_{};  // by each rank
};

TEST_F(GangCoordinatorTest, OneRankWithWorkGoesAloneAtOnce) {
  EXPECT_THAT(intent(0, 1), ElementsAre("solo 1 #1 alone"));
  EXPECT_THAT(ended(5, 1), IsEmpty());
  EXPECT_THAT(intent(5, 1), ElementsAre("solo 1 #2 alone"));
  EXPECT_EQ(coordinator_->counters().waits, 0u);
}

TEST_F(GangCoordinatorTest, RanksThatRunAloneMeet) {
  intent(0, 0);
  EXPECT_THAT(intent(0.5, 1), ElementsAre("wake 1.50"));
  EXPECT_THAT(ended(1.2, 0), ElementsAre("wake 2.20"));  // its intent is to come
  EXPECT_THAT(intent(1.2, 0), ElementsAre("start 0 #2 {01}", "start 1 #2 {01}"));
  EXPECT_EQ(coordinator_->counters().gang_steps, 1u);
  EXPECT_EQ(coordinator_->counters().joins, 2u);
  EXPECT_EQ(coordinator_->counters().waits, 1u);
  EXPECT_EQ(coordinator_->counters().waited, from_ms(0.7));
}

TEST_F(GangCoordinatorTest, AGangGoesOnWhenTheLastOfItHasSpoken) {
  intent(0, 0);
  intent(0.5, 1);
  intent(0.5, 2);
  EXPECT_THAT(intent(1, 0),
              ElementsAre("start 0 #2 {012}", "start 1 #2 {012}", "start 2 #2 {012}"));
  EXPECT_THAT(intent(11, 2), ElementsAre("wake 16.00"));
  EXPECT_THAT(intent(11.5, 1), IsEmpty());
  EXPECT_THAT(ended(12, 0, false), ElementsAre("start 1 #3 {12}", "start 2 #3 {12}"));
}

TEST_F(GangCoordinatorTest, ALateMemberIsWaitedForByHalfAStep) {
  intent(0, 0);
  intent(0, 1);
  intent(1, 0);   // gang step, to 11 ms
  intent(11, 0);  // rank 0's steps took 1 and 10 ms: 5.5 in the mean
  intent(12, 1);
  EXPECT_THAT(intent(21, 0), ElementsAre("wake 24.62"));  // (5.5 + 9)/2 = 7.25 ms a step
  EXPECT_THAT(on(24.625, GangTimer{}), ElementsAre("solo 0 #4 deadline"));
  // Rank 1 comes after all, and waits for rank 0's step, which should end at 31.875 ms.
  EXPECT_THAT(intent(26, 1), ElementsAre("wake 38.12"));  // (11 + 14)/2 = 12.5 ms a step
  EXPECT_THAT(intent(33, 0), ElementsAre("start 0 #5 {01}", "start 1 #5 {01}"));
}

TEST_F(GangCoordinatorTest, ByDefaultWhoBelongsTogetherWaitsForSeveralSteps) {
  make(GangPace::kGang, "as-wanted", 3, GangCoordinatorOptions{}.patience);
  EXPECT_THAT(timed_intent(0, 0, 100), ElementsAre("solo 0 #1 alone"));
  EXPECT_THAT(timed_intent(10, 1, 20), ElementsAre("wake 110.00"));
  EXPECT_THAT(timed_intent(101, 0, 100), ElementsAre("start 0 #2 {01}", "start 1 #2 {01}"));
}

TEST_F(GangCoordinatorTest, NobodyWaitsForAStepThatEndsLater) {
  EXPECT_THAT(timed_intent(0, 0, 100), ElementsAre("solo 0 #1 alone"));
  EXPECT_THAT(timed_intent(10, 1, 20), ElementsAre("solo 1 #2 alone"));
  EXPECT_THAT(intent(30, 1), ElementsAre("solo 1 #3 alone"));
  // It ends at 100 ms, within a step of 20 ms from 85 on.
  EXPECT_THAT(timed_intent(85, 1, 20), ElementsAre("wake 118.75"));
  EXPECT_THAT(timed_intent(101, 0, 100), ElementsAre("start 0 #4 {01}", "start 1 #4 {01}"));
}

TEST_F(GangCoordinatorTest, MembersOfOneStepAreExpectedTogetherHoweverShortItWas) {
  timed_intent(0, 0, 100);
  timed_intent(90, 1, 100);
  timed_intent(95, 0, 100);  // a gang step of 100 ms, as predicted
  EXPECT_EQ(coordinator_->counters().gang_steps, 1u);
  EXPECT_THAT(timed_intent(97, 0, 1), ElementsAre("wake 121.25"));  // (95 + 2)/2 = 48.5 ms a step
  EXPECT_THAT(timed_intent(98, 1, 1), ElementsAre("start 0 #3 {01}", "start 1 #3 {01}"));
}

TEST_F(GangCoordinatorTest, PredictionsFollowWhatStepsTook) {
  timed_intent(0, 0, 10);
  timed_intent(30, 0, 10);  // three times as long: (1 + 3)/2 = 2 times in the mean
  EXPECT_DOUBLE_EQ(std::get<GangSolo>(commands_[0]).expected_ms, 20);
}

TEST_F(GangCoordinatorTest, BudgetsComeFromThePlanner) {
  make(GangPace::kGang, "pairing");
  timed_intent(0, 0, 10);
  policy::GangMember member{.rank = Rank{1}, .decodes = 1, .want = 0, .most = 500};
  member.max_rows = 1000;
  member.times.emplace();
  member.times->coefficients.attention = {4, 0.1, 0, 0, 0};
  on(7, GangIntent{.member = member});
  EXPECT_THAT(timed_intent(9, 0, 10, 100), ElementsAre("start 0 #2 {01}", "start 1 #2 {01}"));
  // 10 + 100·0.1 = 20 ms, so 160 tokens beside 4 ms.
  EXPECT_EQ(std::get<GangStart>(commands_[0]).budget, 100);
  EXPECT_EQ(std::get<GangStart>(commands_[1]).budget, 160);
  EXPECT_DOUBLE_EQ(std::get<GangStart>(commands_[0]).expected_ms, 20);
}

TEST_F(GangCoordinatorTest, WhomThePlannerSendsOffGoesSolo) {
  make(GangPace::kGang, "pairing");
  timed_intent(0, 0, 50);
  EXPECT_THAT(timed_intent(20, 1, 100, 0, false), ElementsAre(HasSubstr("wake")));
  // It comes with much less than it wanted last.
  EXPECT_THAT(timed_intent(50, 0, 10), ElementsAre("solo 0 #2 planned", "solo 1 #3 alone"));
}

TEST_F(GangCoordinatorTest, NobodyWaitsForARankFromWhichThePlannerWouldPartIt) {
  make(GangPace::kGang, "pairing");
  timed_intent(0, 0, 10);
  EXPECT_THAT(timed_intent(5, 1, 100, 0, false), ElementsAre("solo 1 #2 alone"));
  EXPECT_THAT(timed_intent(10, 0, 10), ElementsAre("solo 0 #3 alone"));
  EXPECT_EQ(coordinator_->counters().waits, 0u);
}

TEST_F(GangCoordinatorTest, AnIntentMayBeReplacedOrTakenBack) {
  intent(0, 0);
  intent(0.5, 1, 10);
  EXPECT_THAT(intent(0.6, 1, 20), IsEmpty());
  EXPECT_THAT(intent(0.7, 2, 5), IsEmpty());
  EXPECT_THAT(on(0.8, GangIdle{Rank{2}, seen_[2]}), IsEmpty());
  intent(0.9, 0);
  EXPECT_EQ(std::get<GangStart>(commands_[1]).budget, 20);
  EXPECT_EQ(std::get<GangStart>(commands_[1]).members, RankSet{0b011});
  EXPECT_EQ(coordinator_->counters().withdrawn, 1u);
  // The first in time sets the deadline; once it is gone the next does.
  EXPECT_THAT(intent(2, 2), ElementsAre("wake 3.00"));
  EXPECT_THAT(intent(2.5, 0), IsEmpty());
  EXPECT_THAT(on(2.6, GangIdle{Rank{2}, seen_[2]}), ElementsAre("wake 3.50"));
}

TEST_F(GangCoordinatorTest, AnIntentThatCrossesItsAnswerIsAnsweredByIt) {
  intent(0, 0);
  seen_[0] = 0;  // the rank sent it before it saw number 1
  EXPECT_THAT(intent(0.1, 0), IsEmpty());
  EXPECT_EQ(coordinator_->counters().crossed, 1u);
  seen_[0] = 1;
  EXPECT_THAT(intent(0.2, 0), ElementsAre("solo 0 #2 alone"));
}

TEST_F(GangCoordinatorTest, ALeaverIsNotWaitedForUntilItComesBack) {
  intent(0, 0);
  intent(0.5, 1);
  intent(1, 0);
  on(2, GangLeft{Rank{1}, seen_[1], LeaveReason::kSuspended});
  EXPECT_THAT(intent(3, 0), ElementsAre("solo 0 #3 alone"));
  on(3.5, GangLeft{Rank{1}, 1, LeaveReason::kSplit});  // of a step long ago: counted only
  EXPECT_THAT(intent(4, 1), ElementsAre("wake 5.50"));
  EXPECT_THAT(intent(4.5, 0), ElementsAre("start 0 #4 {01}", "start 1 #4 {01}"));
  EXPECT_EQ(coordinator_->counters().leaves[static_cast<std::size_t>(LeaveReason::kSuspended)], 1u);
  EXPECT_EQ(coordinator_->counters().leaves[static_cast<std::size_t>(LeaveReason::kSplit)], 1u);
}

TEST_F(GangCoordinatorTest, WhoIsLateCountsOnceAStep) {
  intent(0, 0);
  intent(0.5, 1);
  intent(1, 0);
  const auto late = [&] {
    return coordinator_->counters().leaves[static_cast<std::size_t>(LeaveReason::kLate)];
  };
  on(2, GangLeft{Rank{1}, seen_[1], LeaveReason::kLate});
  on(2, GangLeft{Rank{1}, seen_[1], LeaveReason::kLate});  // another service says so too
  EXPECT_EQ(late(), 1u);
  const std::uint64_t number = seen_[1];
  intent(4, 1);
  on(5, GangLeft{Rank{1}, number, LeaveReason::kLate});  // and a third one, later
  EXPECT_EQ(late(), 1u);
}

TEST_F(GangCoordinatorTest, HoldsLastForAnExpectedStep) {
  const auto limit_ms = [&](const GangCoordinatorOptions& options, bool fitted) {
    coordinator_ = std::make_unique<GangCoordinator>(options, *planner_);
    seen_ = {};
    timed_intent(0, 0, 100);  // runs alone
    fitted ? timed_intent(99.5, 1, 20) : intent(99.5, 1);
    timed_intent(100, 0, 100);
    for (const GangCommand& command : commands_) {
      if (const auto* start = std::get_if<GangStart>(&command)) return to_ms(start->hold_limit);
    }
    return -1.0;
  };
  EXPECT_EQ(limit_ms({.ranks = 2}, true), 100);
  EXPECT_EQ(limit_ms({.ranks = 2, .hold_steps = 2.5}, true), 250);
  EXPECT_EQ(limit_ms({.ranks = 2, .hold_steps = 0.1}, true), 50);  // at least
  EXPECT_EQ(limit_ms({.ranks = 2, .hold_steps = 0}, true), 0);     // none
  EXPECT_EQ(limit_ms({.ranks = 2}, false), 0);
  EXPECT_EQ(limit_ms({.pace = GangPace::kLockstep, .ranks = 2}, true), 0);
}

TEST_F(GangCoordinatorTest, NobodyWaitsForTheDead) {
  intent(0, 0);
  EXPECT_THAT(intent(0.5, 1), ElementsAre("wake 1.50"));
  EXPECT_THAT(on(0.6, GangRankDead{Rank{0}}), ElementsAre("solo 1 #2 alone"));
  EXPECT_THAT(intent(0.7, 0), IsEmpty());
  EXPECT_THAT(ended(0.7, 0), IsEmpty());
  EXPECT_THAT(on(0.8, GangIdle{Rank{0}, seen_[0]}), IsEmpty());
  EXPECT_THAT(intent(2, 1), ElementsAre("solo 1 #3 alone"));
}

TEST_F(GangCoordinatorTest, ATimerThatComesEarlyIsSetAgain) {
  intent(0, 0);
  EXPECT_THAT(intent(0.5, 1), ElementsAre("wake 1.50"));
  EXPECT_THAT(on(1, GangTimer{}), ElementsAre("wake 1.50"));
  EXPECT_THAT(on(1.5, GangTimer{}), ElementsAre("solo 1 #2 deadline"));
  EXPECT_THAT(on(1.6, GangTimer{}), IsEmpty());
}

TEST_F(GangCoordinatorTest, ToTheEndWhoeverRunsIsWaitedForButALeaverIsNot) {
  planner_ = policy::make_gang_planner("as-wanted", {}).value();
  coordinator_ = std::make_unique<GangCoordinator>(
      GangCoordinatorOptions{.ranks = 3, .to_the_end = true}, *planner_);
  EXPECT_THAT(timed_intent(0, 0, 10), ElementsAre("solo 0 #1 alone"));
  EXPECT_THAT(timed_intent(5, 1, 500), IsEmpty());  // without a timer, though it is late
  EXPECT_THAT(timed_intent(900, 2, 5), IsEmpty());
  EXPECT_THAT(ended(1000, 0), IsEmpty());  // its intent is to come
  EXPECT_THAT(timed_intent(1000, 0, 10),
              ElementsAre("start 0 #2 {012}", "start 1 #2 {012}", "start 2 #2 {012}"));
  on(1001, GangLeft{Rank{1}, seen_[1], LeaveReason::kSuspended});
  EXPECT_THAT(timed_intent(1002, 0, 10), IsEmpty());
  EXPECT_THAT(ended(1003, 2, false), ElementsAre("solo 0 #3 alone"));
}

TEST_F(GangCoordinatorTest, ImmediateNeverWaits) {
  make(GangPace::kImmediate);
  EXPECT_THAT(intent(0, 0), ElementsAre("solo 0 #1 immediate"));
  EXPECT_THAT(intent(0, 1), ElementsAre("solo 1 #2 immediate"));
  EXPECT_THAT(intent(1, 0), ElementsAre("solo 0 #3 immediate"));
}

TEST_F(GangCoordinatorTest, LockstepStepsEveryRankWithDummies) {
  make(GangPace::kLockstep);
  EXPECT_THAT(intent(0, 1, 40),
              ElementsAre("start 1 #1 {012} dummies {02}", "start 0 #1 {012} dummies {02}",
                          "start 2 #1 {012} dummies {02}"));
  EXPECT_EQ(std::get<GangStart>(commands_[0]).budget, 40);
  EXPECT_THAT(intent(1, 0), IsEmpty());
  EXPECT_THAT(intent(2, 1), IsEmpty());
  EXPECT_THAT(on(1000, GangTimer{}), IsEmpty());
  EXPECT_THAT(ended(2000, 2, false),
              ElementsAre("start 0 #2 {012} dummies {2}", "start 1 #2 {012} dummies {2}",
                          "start 2 #2 {012} dummies {2}"));
  EXPECT_EQ(coordinator_->counters().dummies, 3u);
}

TEST_F(GangCoordinatorTest, LockstepWaitsForLeaversAndNotForTheDead) {
  make(GangPace::kLockstep);
  intent(0, 0);
  on(1, GangLeft{Rank{0}, 1, LeaveReason::kSuspended});
  intent(2, 1);
  EXPECT_THAT(ended(3, 2, false), IsEmpty());
  EXPECT_THAT(on(4, GangRankDead{Rank{0}}),
              ElementsAre("start 1 #2 {12} dummies {2}", "start 2 #2 {12} dummies {2}"));
  on(5, GangRankDead{Rank{2}});
  EXPECT_THAT(intent(6, 1), ElementsAre("solo 1 #3 alone"));
}

TEST_F(GangCoordinatorTest, ARankThatStartsInVainLeaves) {
  make(GangPace::kLockstep);
  intent(0, 0);
  on(1, GangLeft{Rank{1}, 1, LeaveReason::kNoWork});
  on(1, GangLeft{Rank{2}, 1, LeaveReason::kNoWork});
  EXPECT_THAT(intent(2, 0), ElementsAre("start 0 #2 {012} dummies {12}", testing::_, testing::_));
}

TEST(GangPace, NamesAreRead) {
  EXPECT_EQ(parse_gang_pace("gang").value(), GangPace::kGang);
  EXPECT_EQ(parse_gang_pace("lockstep").value(), GangPace::kLockstep);
  EXPECT_EQ(parse_gang_pace("immediate").value(), GangPace::kImmediate);
  const auto wrong = parse_gang_pace("Gang");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message, testing::HasSubstr("Gang"));
}

}  // namespace
}  // namespace gimbal::cluster
