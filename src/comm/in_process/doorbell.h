#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

#include "base/clock.h"

namespace gimbal::comm {

// Wakes one thread that has several things to wait for: everybody who puts something before it
// rings. Ringing somebody who is awake costs one atomic addition. ring, rings: any thread; wait:
// the owner.
class Doorbell {
 public:
  void ring();
  // How often it was rung. To miss nothing: read it, look at everything, then wait for a change.
  [[nodiscard]] std::uint32_t rings() const { return rings_.load(); }
  // Returns when rings() is not `seen`, or `limit` has passed; without a limit only when rung.
  // `spin`: how long it looks before it sleeps; nothing where threads share CPUs.
  void wait(std::uint32_t seen, std::optional<Duration> limit, Duration spin = Duration::zero());

 private:
  std::atomic<std::uint32_t> rings_{0};
  std::atomic<bool> asleep_{false};
  std::mutex mutex_;
  std::condition_variable rung_;
};

}  // namespace gimbal::comm
