#include "comm/in_process/doorbell.h"

#include <algorithm>
#include <chrono>

namespace gimbal::comm {

void Doorbell::ring() {
  rings_.fetch_add(1);
  if (!asleep_.load()) return;
  // The lock orders this ring after the sleeper's last look, or before it.
  { const std::lock_guard lock(mutex_); }
  rung_.notify_one();
}

void Doorbell::wait(std::uint32_t seen, std::optional<Duration> limit, Duration spin) {
  const auto rung = [&] { return rings_.load() != seen; };
  if (limit) spin = std::min(spin, *limit);
  if (spin > Duration::zero()) {
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < spin) {
      for (int look = 0; look < 64; ++look) {
        if (rung()) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
    }
    if (limit) *limit -= spin;
  }
  asleep_.store(true);
  {
    std::unique_lock lock(mutex_);
    if (limit) {
      rung_.wait_for(lock, *limit, rung);
    } else {
      rung_.wait(lock, rung);
    }
  }
  asleep_.store(false);
}

}  // namespace gimbal::comm
