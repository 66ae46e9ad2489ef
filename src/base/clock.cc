#include "base/clock.h"

#include "base/check.h"

namespace gimbal {

TimePoint SteadyClock::now() const {
  return TimePoint{
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
}

void ManualClock::set(TimePoint time) {
  GIMBAL_CHECK(time >= now_);
  now_ = time;
}

}  // namespace gimbal
