// Random ranks that talk to a coordinator through channels with delays: whatever they do, every
// intent gets exactly one answer, the members of a step agree on it, and nobody waits for ever.
#include <gtest/gtest.h>

#include <bit>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/random.h"
#include "cluster/gang_coordinator.h"

namespace gimbal::cluster {
namespace {

// A rank as the protocol wants it to be.
class RandomRank {
 public:
  RandomRank(int rank, GangPace pace) : rank_{rank}, pace_(pace) {}

  std::deque<GangEvent> to_coordinator;
  std::deque<GangCommand> from_coordinator;

  [[nodiscard]] bool waits() const { return waits_; }
  [[nodiscard]] bool dead() const { return dead_; }
  [[nodiscard]] bool runs() const { return running_.has_value(); }

  // Something that a rank may do by itself.
  void act(Rng& rng) {
    if (dead_) return;
    if (runs()) {
      if (rng.below(4) == 0 && in_gang_) {
        in_gang_ = false;
        to_coordinator.emplace_back(
            GangLeft{rank_, *running_, static_cast<LeaveReason>(rng.below(3))});
      } else {
        end_step(rng.below(3) != 0, rng);
      }
    } else if (waits_) {
      if (rng.below(4) == 0) {
        waits_ = false;
        withdrew_ = true;
        to_coordinator.emplace_back(GangIdle{rank_, seen_});
      } else {
        send_intent(rng);
      }
    } else {
      send_intent(rng);
    }
  }

  void end_step(bool has_work, Rng& rng) {
    if (rng.below(4) != 0 || !has_work) {  // an intent alone says so, too
      to_coordinator.emplace_back(GangStepEnded{rank_, *running_, has_work});
    }
    running_.reset();
    if (has_work) send_intent(rng);
  }

  void die() {
    dead_ = true;
    waits_ = false;
    to_coordinator.clear();
    to_coordinator.emplace_back(GangRankDead{rank_});
  }

  void receive() {
    const GangCommand command = from_coordinator.front();
    from_coordinator.pop_front();
    if (dead_) return;
    const auto* start = std::get_if<GangStart>(&command);
    const auto number = start != nullptr ? start->number : std::get<GangSolo>(command).number;
    EXPECT_GT(number, seen_);
    seen_ = number;
    const bool dummy = start != nullptr && (start->dummies >> rank_.value() & 1) != 0;
    EXPECT_FALSE(runs()) << "an answer in mid-step";
    EXPECT_TRUE(waits_ || withdrew_ || dummy) << "an answer that nobody asked for";
    EXPECT_TRUE(!dummy || pace_ == GangPace::kLockstep);
    if (!waits_ && !dummy) {  // it crossed GangIdle
      if (start != nullptr) {
        to_coordinator.emplace_back(GangLeft{rank_, number, LeaveReason::kNoWork});
      } else {
        to_coordinator.emplace_back(GangStepEnded{rank_, number, false});
      }
    } else {
      running_ = number;
      in_gang_ = start != nullptr;
    }
    waits_ = false;
    withdrew_ = false;
  }

 private:
  void send_intent(Rng& rng) {
    GangIntent intent{.last_seen = seen_};
    intent.member.rank = rank_;
    intent.member.decodes = static_cast<int>(rng.below(20));
    intent.member.want = static_cast<int>(rng.below(50));
    intent.member.most = intent.member.want + static_cast<int>(rng.below(50));
    intent.member.max_rows = 200;
    intent.member.latency_sensitive = rng.below(3) != 0;
    if (rng.below(3) != 0) {
      intent.member.times.emplace();
      intent.member.times->coefficients.attention = {rng.uniform(), rng.uniform(), 0.1, 0, 0};
    }
    to_coordinator.emplace_back(intent);
    waits_ = true;
  }

  Rank rank_;
  GangPace pace_;
  std::optional<std::uint64_t> running_;
  std::uint64_t seen_ = 0;
  bool in_gang_ = false;
  bool waits_ = false;
  bool withdrew_ = false;  // since the last answer
  bool dead_ = false;
};

class RandomGroup {
 public:
  RandomGroup(std::uint64_t seed, GangPace pace)
      : rng_(seed), pace_(pace), to_the_end_(seed % 3 == 0) {
    const int count = static_cast<int>(rng_.between(1, 5));
    for (int rank = 0; rank < count; ++rank)
      ranks_.emplace_back(rank, pace);
    planner_ = policy::make_gang_planner(seed % 2 == 0 ? "pairing" : "as-wanted", {}).value();
    coordinator_ = std::make_unique<GangCoordinator>(
        GangCoordinatorOptions{.pace = pace, .ranks = count, .to_the_end = to_the_end_}, *planner_);
  }

  [[nodiscard]] const GangCounters& counters() const { return coordinator_->counters(); }

  void run() {
    for (int i = 0; i < 600 && !testing::Test::HasFailure(); ++i) {
      RandomRank& rank = ranks_[rng_.below(ranks_.size())];
      switch (rng_.below(5)) {
        case 0:
          rank.act(rng_);
          break;
        case 1:
          now_ += from_ms(rng_.uniform());
          break;
        case 2:
          fire_timer();
          break;
        case 3:
          deliver_one(rank);
          break;
        default:
          if (!rank.from_coordinator.empty()) rank.receive();
      }
      if (rng_.below(1000) == 0) rank.die();
    }
    nobody_waits_for_ever();
    EXPECT_EQ(intents_left(), 0);
    for (const auto& [number, step] : steps_) {
      EXPECT_EQ(step.got, step.members) << number;
      EXPECT_GE(std::popcount(step.members), 2);
    }
  }

 private:
  struct Step {
    RankSet members = 0;
    RankSet dummies = 0;
    double expected_ms = 0;
    RankSet got = 0;
  };

  void give(const GangEvent& event) {
    coordinator_->on(event, now_, commands_);
    for (const GangCommand& command : commands_) {
      if (const auto* wake = std::get_if<GangWake>(&command)) {
        EXPECT_GT(wake->at, now_);
        wake_ = wake->at;
        continue;
      }
      const auto* start = std::get_if<GangStart>(&command);
      const Rank rank = start != nullptr ? start->rank : std::get<GangSolo>(command).rank;
      if (start != nullptr) note(*start);
      ranks_[static_cast<std::size_t>(rank.value())].from_coordinator.push_back(command);
    }
  }
  void note(const GangStart& start) {
    Step& step = steps_[start.number];
    if (step.got == 0) {
      step = {start.members, start.dummies, start.expected_ms, 0};
    }
    EXPECT_EQ(step.members, start.members);
    EXPECT_EQ(step.dummies, start.dummies);
    EXPECT_EQ(step.expected_ms, start.expected_ms);
    EXPECT_EQ(step.got & sched::rank_bit(start.rank), RankSet{0});
    EXPECT_NE(step.members & sched::rank_bit(start.rank), RankSet{0});
    step.got |= sched::rank_bit(start.rank);
  }
  void deliver_one(RandomRank& rank) {
    if (rank.to_coordinator.empty()) return;
    const GangEvent event = rank.to_coordinator.front();
    rank.to_coordinator.pop_front();
    give(event);
  }
  bool fire_timer() {
    if (!wake_ || *wake_ > now_) return false;
    wake_.reset();
    give(GangTimer{});
    return true;
  }
  void deliver_all() {
    for (bool moved = true; moved;) {
      moved = false;
      for (RandomRank& rank : ranks_) {
        while (!rank.to_coordinator.empty()) {
          deliver_one(rank);
          moved = true;
        }
        while (!rank.from_coordinator.empty()) {
          rank.receive();
          moved = true;
        }
      }
    }
  }
  // Steps that run go on for ever in pace gang; in lockstep and to the end they end, for they are
  // waited for.
  void nobody_waits_for_ever() {
    deliver_all();
    for (int i = 0; i < 100 && wake_; ++i) {
      now_ = std::max(now_, *wake_);
      fire_timer();
      deliver_all();
    }
    EXPECT_FALSE(wake_);
    if (pace_ != GangPace::kLockstep && !to_the_end_) return;
    for (RandomRank& rank : ranks_) {
      if (rank.runs() && !rank.dead()) rank.end_step(false, rng_);
    }
    deliver_all();
  }
  [[nodiscard]] int intents_left() const {
    int left = 0;
    for (const RandomRank& rank : ranks_)
      left += rank.waits() ? 1 : 0;
    return left;
  }

  Rng rng_;
  GangPace pace_;
  bool to_the_end_;
  std::vector<RandomRank> ranks_;
  std::unique_ptr<policy::GangPlanner> planner_;
  std::unique_ptr<GangCoordinator> coordinator_;
  TimePoint now_{};
  std::optional<TimePoint> wake_;
  std::vector<GangCommand> commands_;
  std::map<std::uint64_t, Step> steps_;
};

TEST(GangCoordinatorRandomTest, EveryIntentIsAnsweredOnceAndNobodyWaitsForEver) {
  std::uint64_t gang_steps = 0;
  std::uint64_t crossed = 0;
  std::uint64_t withdrawn = 0;
  std::uint64_t deadlines = 0;
  for (std::uint64_t seed = 0; seed < 400 && !testing::Test::HasFailure(); ++seed) {
    for (const GangPace pace : {GangPace::kGang, GangPace::kLockstep, GangPace::kImmediate}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " pace " << static_cast<int>(pace));
      RandomGroup group(seed, pace);
      group.run();
      gang_steps += group.counters().gang_steps;
      crossed += group.counters().crossed;
      withdrawn += group.counters().withdrawn;
      deadlines += group.counters().solos[static_cast<std::size_t>(SoloReason::kDeadline)];
    }
  }
  // What the ranks do is not too tame.
  EXPECT_GT(gang_steps, 1000u);
  EXPECT_GT(crossed, 1000u);
  EXPECT_GT(withdrawn, 1000u);
  EXPECT_GT(deadlines, 100u);
}

}  // namespace
}  // namespace gimbal::cluster
