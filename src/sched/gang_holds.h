#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "sched/expert_post.h"

namespace gimbal::sched {

// The ranks of a gang step, bit r for rank r.
using RankSet = std::uint64_t;
inline constexpr int kMostGangRanks = 64;

[[nodiscard]] constexpr RankSet rank_bit(Rank rank) {
  return RankSet{1} << rank.value();
}

struct GangHoldsOptions {
  int ranks = 0;             // of the expert-parallel group; at most kMostGangRanks
  int layers = 0;            // of the model: posts' layers are in [0, layers)
  int posts_per_member = 0;  // that a member sends in a gang step: one a MoE layer
  int max_steps = 1024;      // begun and not over here; more is a bug of the protocol
};

// A post as the holds see it: who sent it, for what, and `post`, by which the owner finds its rows.
struct HeldPost {
  Rank source;
  LayerIndex layer;
  std::uint64_t step = kSolo;  // a gang step's number; kSolo: passes at once
  RankSet members = 0;         // of the step; the same in all its posts
  std::int32_t post = -1;      // >= 0
  // Until when its (step, layer) is held, if this is the first post of it; max(): without limit.
  TimePoint deadline = TimePoint::max();
};

// What the service may go on with. Reused from call to call, so that nothing allocates.
struct GangRelease {
  // Posts of one (step, layer), whose experts run together: posts[first, first + count).
  struct Hold {
    std::uint64_t step = kSolo;
    LayerIndex layer;
    int first = 0;
    int count = 0;  // >= 1

    bool operator==(const Hold&) const = default;
  };
  // A member that had not posted when a hold's deadline passed.
  struct Late {
    Rank rank;
    std::uint64_t step = kSolo;

    bool operator==(const Late&) const = default;
  };
  std::vector<std::int32_t> posts;    // go on to the queues, in this order
  std::vector<Hold> holds;            // that became complete
  std::vector<std::int32_t> dropped;  // posts of dead ranks: let go of them without running them
  std::vector<Late> late;             // have left here, once a member and step
};

// The service's side of gang steps (docs/design/0010): it keeps the posts of a (step, layer) until
// each member that still takes part has sent its own, then lets all of them go, in order of ranks,
// so that the expert's weights are read once and a run does not depend on who came first. It knows
// numbers of posts, not their rows. Solo posts, and posts of a rank for a step that it has left,
// pass at once.
//
// A (step, layer) is held until its deadline at most: members that have not posted by then have
// left the step, at this service. What they post afterwards is solo, and later layers do not wait
// for them.
//
// A member sends every service exactly one post (with or without rows) for each MoE layer, or says
// at some point that it leaves. What it posted before stays held with the others' posts; what it
// posts afterwards is solo. A step is forgotten when each member has sent all its posts, left or
// died. One rank's gang steps arrive here in ascending order, one after the other; different
// sources in any order. A post that is repeated (to another rank, under another map) is solo.
//
// Costs: O(ranks) a call, leave and dead also O(layers) for each step the rank takes part in, and
// expire for all steps, once a deadline has passed.
// Allocates only when more steps overlap than ever before. One thread; owned by the rank's expert
// service.
class GangHolds {
 public:
  // Requires: all options >= 1, posts_per_member <= layers, ranks <= kMostGangRanks.
  explicit GangHolds(const GangHoldsOptions& options);

  // All calls overwrite `release`. A source's `members` contain it.

  // A post came. Requires: the first of its source for that (step, layer).
  void post(const HeldPost& post, GangRelease& release);
  // The source takes part in the step no more. Harmless when it had sent all its posts.
  void leave(Rank source, std::uint64_t step, RankSet members, GangRelease& release);
  // The rank takes part in nothing any more: what is held of it is dropped, as are its later posts.
  void dead(Rank rank, GangRelease& release);
  // Time has come to `now`: holds whose deadline is not later are let go.
  void expire(TimePoint now, GangRelease& release);
  // When to call expire() next; at times earlier than a hold's deadline is, never later. max():
  // nothing is held with one.
  [[nodiscard]] TimePoint next_deadline() const { return next_deadline_; }

  // Members whose posts a begun (step, layer) waits for; 0: none, or it is not begun.
  [[nodiscard]] RankSet missing(std::uint64_t step, LayerIndex layer) const;
  [[nodiscard]] int held() const { return held_; }   // posts
  [[nodiscard]] int steps() const { return open_; }  // begun and not over here
  [[nodiscard]] RankSet dead_ranks() const { return dead_; }

 private:
  struct Hold {
    RankSet posted = 0;  // and held
    bool complete = false;
    TimePoint deadline = TimePoint::max();
  };
  struct Step {
    std::uint64_t number = kSolo;
    RankSet members = 0;
    RankSet gone = 0;                // left, died
    RankSet done = 0;                // sent all their posts
    std::vector<Hold> holds;         // [layers]
    std::vector<std::int32_t> post;  // [layers, ranks], where posted
    std::vector<std::int32_t> sent;  // [ranks]: posts that came
  };

  [[nodiscard]] int find(std::uint64_t number) const;
  [[nodiscard]] Step& open(std::uint64_t number, RankSet members);
  [[nodiscard]] bool over_for(Rank source, std::uint64_t number) const {
    return number <= over_[static_cast<std::size_t>(source.value())];
  }
  void mark_over(Rank source, std::uint64_t number);
  void depart(Step& step, Rank rank, GangRelease& release);
  void complete_if_all_came(Step& step, int layer, GangRelease& release);
  void forget_if_over(std::uint64_t number);
  void find_late(const Step& step, TimePoint now, GangRelease& release) const;
  void find_next_deadline();
  void check_rank(Rank rank) const;

  GangHoldsOptions options_;
  std::vector<Step> steps_;          // [0, open_) are open, the others wait to be used again
  std::vector<std::uint64_t> over_;  // [ranks]: the last step that is over for the rank here
  RankSet dead_ = 0;
  TimePoint next_deadline_ = TimePoint::max();
  int open_ = 0;
  int held_ = 0;
};

}  // namespace gimbal::sched
