#include "engine/rank_watch.h"

namespace gimbal::engine {
namespace {

constexpr int kRings = 8;  // while a rank is given time to answer

}  // namespace

RankWatch::RankWatch(ExpertGroup& group, Rank self, Duration dead_after)
    : group_(group), self_(self), dead_after_(dead_after) {}

std::span<const Rank> RankWatch::look(TimePoint now) {
  dead_.clear();
  if (!seen_.empty() && now < next_look_) return dead_;
  next_look_ = now + dead_after_ / (kRings + 1);
  if (seen_.empty()) {
    for (int rank = 0; rank < group_.ranks(); ++rank)
      seen_.push_back({.beats = group_.beats(Rank{rank})});
    return dead_;
  }
  for (int rank = 0; rank < group_.ranks(); ++rank) {
    if (Rank{rank} == self_ || !group_.alive(Rank{rank})) continue;
    Seen& seen = seen_[static_cast<std::size_t>(rank)];
    const std::uint64_t beats = group_.beats(Rank{rank});
    if (beats != seen.beats) {
      seen = {.beats = beats};
      continue;
    }
    if (seen.unanswered == kRings) {
      seen.unanswered = 0;
      dead_.emplace_back(rank);
    }
    ++seen.unanswered;
    group_.bell(Rank{rank}).ring();
  }
  return dead_;
}

}  // namespace gimbal::engine
