#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/expert_group.h"

namespace gimbal::engine {

// Looks for ranks whose threads are stuck. A thread that is well shows signs of life while it works
// and answers its bell when it rests; one that does neither, though it was rung again and again for
// `dead_after`, is dead. Rings count, not time alone: who did not look for long, because it worked
// or the machine stood still, has not rung. One thread. The group must outlive it.
class RankWatch {
 public:
  RankWatch(ExpertGroup& group, Rank self, Duration dead_after);

  // Whom the rank has found dead now; valid until the next call. Rings those who have not moved
  // since the last look. Does nothing before next_look().
  [[nodiscard]] std::span<const Rank> look(TimePoint now);
  [[nodiscard]] TimePoint next_look() const { return next_look_; }

  [[nodiscard]] Duration dead_after() const { return dead_after_; }

 private:
  struct Seen {
    std::uint64_t beats = 0;
    int unanswered = 0;  // rings since they moved
  };

  ExpertGroup& group_;
  Rank self_;
  Duration dead_after_;
  TimePoint next_look_{};   // the first look is due at once
  std::vector<Seen> seen_;  // by rank; empty before the first look
  std::vector<Rank> dead_;
};

}  // namespace gimbal::engine
