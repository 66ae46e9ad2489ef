#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "engine/expert_group.h"

namespace gimbal::engine {

// Looks for ranks whose threads are stuck, while one's own waits for others. A thread that is well
// answers its bell; one that gives no sign of life, though it was rung again and again for
// `dead_after`, is dead. Rings count, not time alone: who did not look for long, because it worked
// or the machine stood still, has not rung. One thread. The group must outlive it.
class RankWatch {
 public:
  RankWatch(ExpertGroup& group, Rank self, Duration dead_after);

  struct Finding {
    std::vector<Rank> dead;
    Duration look_again{};  // call again by then at the latest
  };
  // The rank waits for others and has nothing to do.
  [[nodiscard]] Finding waited(TimePoint now);
  // It no longer waits.
  void worked() { watching_ = false; }

  [[nodiscard]] Duration dead_after() const { return dead_after_; }

 private:
  ExpertGroup& group_;
  Rank self_;
  Duration dead_after_;
  bool watching_ = false;
  TimePoint next_ring_{};
  struct Seen {
    std::uint64_t beats = 0;
    int unanswered = 0;  // rings since they moved
  };
  std::vector<Seen> seen_;  // by rank
};

}  // namespace gimbal::engine
