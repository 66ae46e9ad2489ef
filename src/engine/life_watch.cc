#include "engine/life_watch.h"

namespace gimbal::engine {
namespace {

constexpr int kRings = 8;  // while a thread is given time to answer

}  // namespace

LifeWatch::LifeWatch(LifeSigns& life, int self, Duration dead_after)
    : life_(life), self_(self), dead_after_(dead_after) {}

std::span<const int> LifeWatch::look(TimePoint now) {
  dead_.clear();
  if (!seen_.empty() && now < next_look_) return dead_;
  next_look_ = now + dead_after_ / (kRings + 1);
  if (seen_.empty()) {
    for (int place = 0; place < life_.places(); ++place)
      seen_.push_back({.beats = life_.beats(place)});
    return dead_;
  }
  for (int place = 0; place < life_.places(); ++place) {
    if (place == self_ || !life_.alive(place)) continue;
    Seen& seen = seen_[static_cast<std::size_t>(place)];
    const std::uint64_t beats = life_.beats(place);
    if (beats == 0) continue;  // it has not started yet
    if (beats != seen.beats) {
      seen = {.beats = beats};
      continue;
    }
    if (seen.unanswered == kRings) {
      seen.unanswered = 0;
      dead_.push_back(place);
    }
    ++seen.unanswered;
    life_.bell(place).ring();
  }
  return dead_;
}

}  // namespace gimbal::engine
