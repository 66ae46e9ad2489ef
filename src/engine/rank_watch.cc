#include "engine/rank_watch.h"

#include <algorithm>

namespace gimbal::engine {
namespace {

constexpr int kRings = 8;  // while a rank is given time to answer

}  // namespace

RankWatch::RankWatch(ExpertGroup& group, Rank self, Duration dead_after)
    : group_(group), self_(self), dead_after_(dead_after) {}

RankWatch::Finding RankWatch::waited(TimePoint now) {
  const Duration interval = dead_after_ / kRings;
  Finding found{.dead = {}, .look_again = interval};
  const auto read_beats = [&] {
    since_ = now;
    next_ring_ = now + interval;
    beats_.clear();
    for (int rank = 0; rank < group_.ranks(); ++rank)
      beats_.push_back(group_.beats(Rank{rank}));
  };
  if (!since_) {
    read_beats();
    return found;
  }
  if (now - *since_ >= dead_after_) {
    for (int rank = 0; rank < group_.ranks(); ++rank) {
      const bool silent = group_.beats(Rank{rank}) == beats_[static_cast<std::size_t>(rank)];
      if (silent && Rank{rank} != self_ && group_.alive(Rank{rank})) found.dead.emplace_back(rank);
    }
    read_beats();
  } else if (now >= next_ring_) {
    next_ring_ = now + interval;
    group_.ring_all();
  }
  return found;
}

}  // namespace gimbal::engine
