#include "engine/rank_watch.h"

namespace gimbal::engine {
namespace {

constexpr int kRings = 8;  // while a rank is given time to answer

}  // namespace

RankWatch::RankWatch(ExpertGroup& group, Rank self, Duration dead_after)
    : group_(group), self_(self), dead_after_(dead_after) {}

RankWatch::Finding RankWatch::waited(TimePoint now) {
  const Duration interval = dead_after_ / (kRings + 1);
  Finding found{.dead = {}, .look_again = interval};
  if (watching_ && now < next_ring_) return found;
  next_ring_ = now + interval;
  if (!watching_) {
    watching_ = true;
    seen_.clear();
    for (int rank = 0; rank < group_.ranks(); ++rank)
      seen_.push_back({.beats = group_.beats(Rank{rank})});
    return found;
  }
  for (int rank = 0; rank < group_.ranks(); ++rank) {
    Seen& seen = seen_[static_cast<std::size_t>(rank)];
    const std::uint64_t beats = group_.beats(Rank{rank});
    if (beats != seen.beats) {
      seen = {.beats = beats};
    } else if (seen.unanswered == kRings) {
      seen.unanswered = 0;
      if (Rank{rank} != self_ && group_.alive(Rank{rank})) found.dead.emplace_back(rank);
    }
    ++seen.unanswered;
  }
  group_.ring_all();
  return found;
}

}  // namespace gimbal::engine
