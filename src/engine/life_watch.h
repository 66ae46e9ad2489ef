#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/life_signs.h"

namespace gimbal::engine {

// Looks for threads that are stuck. A thread that is well shows signs of life while it works and
// answers its bell when it rests; one that does neither, though it was rung again and again for
// `dead_after`, is dead, once it has shown the first one. Rings count, not time alone: who did not
// look for long, because it worked or the machine stood still, has not rung. One thread. The signs
// must outlive it.
class LifeWatch {
 public:
  // `self`: the place of the thread that looks.
  LifeWatch(LifeSigns& life, int self, Duration dead_after);

  // The places that were found dead now; valid until the next call. Rings those who have not moved
  // since the last look. Does nothing before next_look().
  [[nodiscard]] std::span<const int> look(TimePoint now);
  [[nodiscard]] TimePoint next_look() const { return next_look_; }

  [[nodiscard]] Duration dead_after() const { return dead_after_; }

 private:
  struct Seen {
    std::uint64_t beats = 0;
    int unanswered = 0;  // rings since they moved
  };

  LifeSigns& life_;
  int self_;
  Duration dead_after_;
  TimePoint next_look_{};   // the first look is due at once
  std::vector<Seen> seen_;  // by place; empty before the first look
  std::vector<int> dead_;
};

}  // namespace gimbal::engine
