#include "sched/gang_holds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/random.h"

namespace gimbal::sched {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr TimePoint at(int ms) {
  return TimePoint{} + std::chrono::milliseconds(ms);
}

class GangHoldsTest : public testing::Test {
 protected:
  const GangRelease& post(int source, std::uint64_t step, int layer, int post,
                          RankSet members = 0b111, TimePoint deadline = TimePoint::max()) {
    holds_.post({.source = Rank{source},
                 .layer = LayerIndex{layer},
                 .step = step,
                 .members = members,
                 .post = post,
                 .deadline = deadline},
                release_);
    return release_;
  }
  const GangRelease& expire(int ms) {
    holds_.expire(at(ms), release_);
    return release_;
  }
  const GangRelease& leave(int source, std::uint64_t step, RankSet members = 0b111) {
    holds_.leave(Rank{source}, step, members, release_);
    return release_;
  }
  const GangRelease& dead(int rank) {
    holds_.dead(Rank{rank}, release_);
    return release_;
  }

  GangHolds holds_{{.ranks = 3, .layers = 4, .posts_per_member = 2, .max_steps = 4}};
  GangRelease release_;
};

TEST_F(GangHoldsTest, PostsOfALayerGoTogetherInOrderOfRanks) {
  EXPECT_THAT(post(2, 1, 1, 20).posts, IsEmpty());
  EXPECT_THAT(post(0, 1, 1, 0).posts, IsEmpty());
  EXPECT_EQ(holds_.missing(1, LayerIndex{1}), RankSet{0b010});
  EXPECT_EQ(holds_.held(), 2);
  EXPECT_THAT(post(1, 1, 1, 10).posts, ElementsAre(0, 10, 20));
  EXPECT_THAT(release_.holds, ElementsAre(GangRelease::Hold{
                                  .step = 1, .layer = LayerIndex{1}, .first = 0, .count = 3}));
  EXPECT_EQ(holds_.held(), 0);
  EXPECT_EQ(holds_.missing(1, LayerIndex{1}), RankSet{0});
}

TEST_F(GangHoldsTest, SoloPostsPassAtOnce) {
  post(0, 1, 1, 0);
  EXPECT_THAT(post(1, kSolo, 1, 10, 0).posts, ElementsAre(10));
  EXPECT_THAT(release_.holds, IsEmpty());
  EXPECT_EQ(holds_.held(), 1);
}

TEST_F(GangHoldsTest, LayersAndStepsAreHeldApart) {
  post(0, 1, 1, 1);
  post(0, 1, 3, 2);
  EXPECT_THAT(post(1, 1, 3, 11, 0b111).posts, IsEmpty());
  EXPECT_THAT(post(2, 2, 1, 21, 0b101).posts, IsEmpty());
  EXPECT_THAT(post(2, 2, 3, 22, 0b101).posts, IsEmpty());
  EXPECT_THAT(post(0, 2, 1, 3, 0b101).posts, ElementsAre(3, 21));
  EXPECT_EQ(holds_.steps(), 2);
}

TEST_F(GangHoldsTest, AStepIsForgottenWhenAllHaveSentAllTheirPosts) {
  for (const int layer : {1, 3}) {
    post(0, 1, layer, layer, 0b011);
    EXPECT_EQ(holds_.steps(), 1);
    post(1, 1, layer, 10 + layer, 0b011);
  }
  EXPECT_EQ(holds_.steps(), 0);
  EXPECT_EQ(holds_.held(), 0);
}

TEST_F(GangHoldsTest, LeavingLetsGoOfWhatWaitedForTheLeaverAlone) {
  post(0, 1, 1, 1);
  post(1, 1, 1, 11);
  post(0, 1, 3, 2);
  EXPECT_THAT(leave(2, 1).posts, ElementsAre(1, 11));
  EXPECT_THAT(release_.holds, ElementsAre(GangRelease::Hold{
                                  .step = 1, .layer = LayerIndex{1}, .first = 0, .count = 2}));
  EXPECT_THAT(post(1, 1, 3, 12).posts, ElementsAre(2, 12));
  EXPECT_EQ(holds_.steps(), 0);
}

TEST_F(GangHoldsTest, WhatALeaverPostedStaysHeldWithTheOthers) {
  post(0, 1, 1, 1);
  EXPECT_THAT(leave(0, 1).posts, IsEmpty());
  EXPECT_THAT(post(0, 1, 3, 2).posts, ElementsAre(2));  // it is solo now
  post(1, 1, 1, 11);
  EXPECT_THAT(post(2, 1, 1, 21).posts, ElementsAre(1, 11, 21));
}

TEST_F(GangHoldsTest, WhenAllLeaveNothingStaysHeld) {
  post(0, 1, 1, 1);
  leave(0, 1);
  leave(1, 1);
  EXPECT_THAT(leave(2, 1).posts, ElementsAre(1));
  EXPECT_EQ(holds_.steps(), 0);
}

TEST_F(GangHoldsTest, LeavingBeforeAnybodyHasPostedIsRemembered) {
  leave(2, 5, 0b101);
  EXPECT_THAT(post(0, 5, 1, 1, 0b101).posts, ElementsAre(1));
}

TEST_F(GangHoldsTest, LeavingAStepThatIsOverDoesNotBeginItAgain) {
  for (const int layer : {0, 2})
    post(1, 3, layer, layer, 0b010);
  EXPECT_EQ(holds_.steps(), 0);
  leave(1, 3, 0b010);
  EXPECT_EQ(holds_.steps(), 0);
}

TEST_F(GangHoldsTest, ADeadRanksPostsAreDroppedAndNobodyWaitsForIt) {
  post(0, 1, 1, 1);
  post(2, 1, 1, 21);
  post(2, 1, 3, 22);
  post(1, 2, 0, 30, 0b110);
  EXPECT_THAT(dead(2).dropped, ElementsAre(21, 22));
  EXPECT_THAT(release_.posts, ElementsAre(30));
  EXPECT_EQ(holds_.held(), 1);
  EXPECT_THAT(post(1, 1, 1, 11).posts, ElementsAre(1, 11));
  EXPECT_THAT(post(2, 1, 3, 23).dropped, ElementsAre(23));
  EXPECT_THAT(post(2, kSolo, 3, 24).dropped, ElementsAre(24));
  EXPECT_THAT(dead(2).dropped, IsEmpty());
  // Steps that name it begin without it.
  EXPECT_THAT(post(0, 7, 0, 40, 0b101).posts, ElementsAre(40));
  EXPECT_EQ(holds_.dead_ranks(), RankSet{0b100});
}

TEST_F(GangHoldsTest, ADeadlineEndsWaitingForTheLate) {
  post(0, 1, 1, 1, 0b111, at(10));
  EXPECT_EQ(holds_.next_deadline(), at(10));
  EXPECT_THAT(expire(9).posts, IsEmpty());
  EXPECT_THAT(post(1, 1, 1, 11, 0b111, at(14)).posts, IsEmpty());  // the first one's counts
  EXPECT_THAT(expire(10).posts, ElementsAre(1, 11));
  EXPECT_THAT(release_.holds, ElementsAre(GangRelease::Hold{
                                  .step = 1, .layer = LayerIndex{1}, .first = 0, .count = 2}));
  EXPECT_THAT(release_.late, ElementsAre(GangRelease::Late{.rank = Rank{2}, .step = 1}));
  EXPECT_EQ(holds_.next_deadline(), TimePoint::max());
  // Its own rows run when they come, and the next layer does not wait for them.
  EXPECT_THAT(post(2, 1, 1, 21).posts, ElementsAre(21));
  EXPECT_THAT(release_.holds, IsEmpty());
  EXPECT_THAT(post(0, 1, 3, 2, 0b111, at(20)).posts, IsEmpty());
  EXPECT_THAT(post(1, 1, 3, 12, 0b111, at(20)).posts, ElementsAre(2, 12));
  EXPECT_EQ(holds_.steps(), 0);
  EXPECT_THAT(post(2, 1, 3, 22).posts, ElementsAre(22));
  EXPECT_EQ(holds_.steps(), 0);
}

TEST_F(GangHoldsTest, WhatTheLatePostedBeforeGoesWithTheOthers) {
  post(2, 1, 3, 22, 0b101, at(30));
  post(0, 1, 1, 1, 0b101, at(10));
  EXPECT_THAT(expire(10).posts, ElementsAre(1));
  EXPECT_THAT(post(0, 1, 3, 2, 0b101).posts, ElementsAre(2, 22));
}

TEST_F(GangHoldsTest, ALateRankIsInTimeInItsNextStep) {
  post(0, 1, 1, 1, 0b101, at(10));
  expire(10);
  EXPECT_THAT(post(0, 2, 1, 2, 0b101, at(20)).posts, IsEmpty());
  EXPECT_THAT(post(2, 2, 1, 22, 0b101).posts, ElementsAre(2, 22));
}

TEST_F(GangHoldsTest, WhoIsLateIsWaitedForInNoOlderStep) {
  post(0, 1, 1, 1, 0b101);  // without deadline
  post(1, 2, 1, 11, 0b110, at(10));
  EXPECT_THAT(expire(10).posts, ElementsAre(1, 11));
  EXPECT_THAT(release_.late, ElementsAre(GangRelease::Late{.rank = Rank{2}, .step = 2}));
}

TEST_F(GangHoldsTest, ACompleteHoldHasNoDeadline) {
  post(0, 1, 1, 1, 0b101, at(10));
  post(0, 2, 1, 2, 0b011, at(30));
  EXPECT_THAT(post(2, 1, 1, 21, 0b101).posts, ElementsAre(1, 21));
  EXPECT_THAT(expire(20).late, IsEmpty());
  EXPECT_EQ(holds_.next_deadline(), at(30));
  dead(1);
  EXPECT_EQ(holds_.next_deadline(), TimePoint::max());
}

using GangHoldsDeathTest = GangHoldsTest;

TEST_F(GangHoldsDeathTest, BreachesOfTheProtocolAbort) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  post(0, 1, 1, 0);
  EXPECT_DEATH(post(0, 1, 1, 1), "twice");
  EXPECT_DEATH(post(1, 1, 1, 1, 0b011), "different members");
  EXPECT_DEATH(post(2, 2, 1, 1, 0b011), "of others");
  EXPECT_DEATH(leave(2, 2, 0b011), "of others");
  EXPECT_DEATH(post(3, 1, 1, 1, 0b1111), "");
  EXPECT_DEATH(post(1, 1, 4, 1), "");
  EXPECT_DEATH(post(1, 1, 1, -1), "");
  for (std::uint64_t step = 2; step <= 4; ++step)
    post(0, step, 1, 1);
  EXPECT_DEATH(post(0, 5, 1, 1), "more gang steps");
}

// Says what GangHolds should do from the whole history, searching all of it each time.
class NaiveHolds {
 public:
  using Key = std::pair<std::uint64_t, int>;  // step, layer

  bool passes(int source, std::uint64_t step) const {
    return step == kSolo || left_.contains({source, step});
  }
  bool is_dead(int source) const { return dead_.contains(source); }
  void post(int source, std::uint64_t step, int layer, int post, RankSet members,
            TimePoint deadline) {
    members_[step] = members;
    deadline_.try_emplace({step, layer}, deadline);
    held_[{step, layer}][source] = post;
    posted_.insert({step, layer, source});
  }
  void leave(int source, std::uint64_t step) { left_.insert({source, step}); }
  std::set<int> dead(int source) {
    dead_.insert(source);
    std::set<int> dropped;
    for (auto& [key, posts] : held_) {
      if (const auto found = posts.find(source); found != posts.end()) {
        dropped.insert(found->second);
        posts.erase(found);
        if (posts.empty()) deadline_.erase(key);  // that of the next one counts
      }
    }
    return dropped;
  }

  // Who left which step because a deadline has passed.
  std::set<std::pair<std::uint64_t, int>> expire(TimePoint now) {
    std::set<std::pair<std::uint64_t, int>> late;
    for (const auto& [key, posts] : held_) {
      if (posts.empty() || deadline_.at(key) > now) continue;
      for (const int rank : missing(key))
        late.insert({key.first, rank});
    }
    for (const auto& [step, rank] : late) {
      for (std::uint64_t older = 1; older <= step; ++older)
        left_.insert({rank, older});
    }
    return late;
  }

  // (step, layer)s that are complete now → their posts in order of ranks; forgets them.
  std::map<Key, std::vector<int>> release() {
    std::map<Key, std::vector<int>> released;
    for (auto& [key, posts] : held_) {
      if (posts.empty() || !missing(key).empty()) continue;
      for (const auto& [source, post] : posts)
        released[key].push_back(post);
      posts.clear();
    }
    return released;
  }
  int held() const {
    int count = 0;
    for (const auto& [key, posts] : held_)
      count += static_cast<int>(posts.size());
    return count;
  }

 private:
  std::vector<int> missing(const Key& key) const {
    std::vector<int> missing;
    for (int rank = 0; rank < kMostGangRanks; ++rank) {
      if ((members_.at(key.first) & rank_bit(Rank{rank})) == 0) continue;
      if (dead_.contains(rank) || left_.contains({rank, key.first})) continue;
      if (!posted_.contains({key.first, key.second, rank})) missing.push_back(rank);
    }
    return missing;
  }

  std::map<std::uint64_t, RankSet> members_;
  std::map<Key, std::map<int, int>> held_;
  std::map<Key, TimePoint> deadline_;
  std::set<std::tuple<std::uint64_t, int, int>> posted_;
  std::set<std::pair<int, std::uint64_t>> left_;
  std::set<int> dead_;
};

// What one source still has to say: its steps in order, a post a layer.
struct Script {
  std::vector<std::uint64_t> steps;
  std::size_t step = 0;
  std::size_t layer = 0;
};

class RandomRun {
 public:
  RandomRun(std::uint64_t seed, bool with_deaths) : rng_(seed), with_deaths_(with_deaths) {
    ranks_ = static_cast<int>(rng_.between(1, 6));
    for (int layer = 0; layer < 7; ++layer) {
      if (rng_.below(4) != 0) layers_.push_back(layer);
    }
    if (layers_.empty()) layers_.push_back(2);
    scripts_.resize(static_cast<std::size_t>(ranks_));
    for (std::uint64_t step = 1; step <= 12; ++step) {
      RankSet members = rng_() & ((RankSet{1} << ranks_) - 1);
      members |= rank_bit(Rank{static_cast<int>(rng_.below(static_cast<std::uint64_t>(ranks_)))});
      members_[step] = members;
      for (int rank = 0; rank < ranks_; ++rank) {
        if ((members & rank_bit(Rank{rank})) != 0)
          scripts_[static_cast<std::size_t>(rank)].steps.push_back(step);
      }
    }
  }

  void run() {
    GangHolds holds(
        {.ranks = ranks_, .layers = 7, .posts_per_member = static_cast<int>(layers_.size())});
    while (!testing::Test::HasFailure()) {
      std::vector<int> speakers;
      for (int rank = 0; rank < ranks_; ++rank) {
        const Script& script = scripts_[static_cast<std::size_t>(rank)];
        if (script.step < script.steps.size()) speakers.push_back(rank);
      }
      if (speakers.empty()) break;
      const int rank = speakers[rng_.below(speakers.size())];
      say_something(holds, rank);
      EXPECT_EQ(holds.held(), naive_.held());
    }
    EXPECT_EQ(holds.held(), 0);
    EXPECT_EQ(holds.steps(), 0);
  }

 private:
  void let_time_pass(GangHolds& holds) {
    now_ += std::chrono::milliseconds(rng_.below(5));
    holds.expire(now_, release_);
    std::set<std::pair<std::uint64_t, int>> late;
    for (const GangRelease::Late& each : release_.late)
      late.insert({each.step, each.rank.value()});
    EXPECT_EQ(late, naive_.expire(now_));
    EXPECT_EQ(late.size(), release_.late.size());
    expect_same_release();
    EXPECT_GT(holds.next_deadline(), now_);
  }

  void say_something(GangHolds& holds, int rank) {
    Script& script = scripts_[static_cast<std::size_t>(rank)];
    const std::uint64_t step = script.steps[script.step];
    const RankSet members = members_[step];
    const std::uint64_t dice = rng_.below(40);
    if (with_deaths_ && dice == 0) {
      holds.dead(Rank{rank}, release_);
      const std::set<int> dropped = naive_.dead(rank);
      EXPECT_EQ(std::set<int>(release_.dropped.begin(), release_.dropped.end()), dropped);
      EXPECT_EQ(release_.dropped.size(), dropped.size());
      expect_same_release();
      if (rng_.below(2) == 0) script.steps.clear();  // or it goes on talking, into the void
      return;
    }
    if (dice < 4) {
      holds.leave(Rank{rank}, step, members, release_);
      if (!naive_.is_dead(rank)) naive_.leave(rank, step);
      expect_same_release();
      if (rng_.below(2) == 0) next_step(script);  // or it sends the rest, which passes
      return;
    }
    if (dice < 8) let_time_pass(holds);
    const bool solo = dice < 8;
    const int layer = layers_[script.layer];
    const int post = next_post_++;
    const TimePoint deadline = rng_.below(3) == 0
                                   ? TimePoint::max()
                                   : now_ + std::chrono::milliseconds(1 + rng_.below(40));
    holds.post({.source = Rank{rank},
                .layer = LayerIndex{layer},
                .step = solo ? kSolo : step,
                .members = members,
                .post = post,
                .deadline = deadline},
               release_);
    if (naive_.is_dead(rank)) {
      EXPECT_THAT(release_.dropped, ElementsAre(post));
      EXPECT_THAT(release_.posts, IsEmpty());
    } else if (solo || naive_.passes(rank, step)) {
      EXPECT_THAT(release_.posts, ElementsAre(post));
      EXPECT_THAT(release_.holds, IsEmpty());
    } else {
      naive_.post(rank, step, layer, post, members, deadline);
      expect_same_release();
    }
    if (solo) return;
    if (++script.layer == layers_.size()) {
      if (rng_.below(4) == 0) {  // leaving after the last post changes nothing
        holds.leave(Rank{rank}, step, members, release_);
        EXPECT_THAT(release_.posts, IsEmpty());
      }
      next_step(script);
    }
  }

  static void next_step(Script& script) {
    ++script.step;
    script.layer = 0;
  }

  void expect_same_release() {
    std::map<NaiveHolds::Key, std::vector<int>> released;
    std::size_t count = 0;
    for (const GangRelease::Hold& hold : release_.holds) {
      const auto first = release_.posts.begin() + hold.first;
      released[{hold.step, hold.layer.value()}].assign(first, first + hold.count);
      count += static_cast<std::size_t>(hold.count);
    }
    EXPECT_EQ(released, naive_.release());
    EXPECT_EQ(count, release_.posts.size());
    EXPECT_EQ(released.size(), release_.holds.size());
  }

  Rng rng_;
  bool with_deaths_;
  int ranks_ = 0;
  std::vector<int> layers_;
  std::map<std::uint64_t, RankSet> members_;
  std::vector<Script> scripts_;
  NaiveHolds naive_;
  GangRelease release_;
  TimePoint now_{};
  int next_post_ = 0;
};

TEST(GangHoldsRandomTest, AgreesWithANaiveReference) {
  for (std::uint64_t seed = 0; seed < 300 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RandomRun(seed, seed % 2 == 1).run();
  }
}

}  // namespace
}  // namespace gimbal::sched
