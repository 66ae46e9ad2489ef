#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace gimbal {

// How often a duration fell into each of a fixed set of buckets, from a microsecond to 10 s in
// steps of 1, 2, 5. Recording neither allocates nor locks.
//
// Thread rule: record(): one thread at a time. read(): any thread; of records under way it may see
// the count without the sum, or the other way round.
class DurationHistogram {
 public:
  // Bounds of the buckets, each inclusive; beyond the last one there is a bucket more.
  static constexpr std::array<Duration, 22> kBounds = [] {
    std::array<Duration, 22> bounds{};
    std::int64_t decade = 1000;
    for (std::size_t i = 0; i + 1 < bounds.size(); i += 3, decade *= 10) {
      bounds[i] = Duration{decade};
      bounds[i + 1] = Duration{2 * decade};
      bounds[i + 2] = Duration{5 * decade};
    }
    bounds.back() = Duration{decade};
    return bounds;
  }();

  struct Reading {
    std::array<std::uint64_t, kBounds.size() + 1> counts{};  // of each bucket alone
    Duration sum{};
  };

  void record(Duration duration) {
    const auto bucket = static_cast<std::size_t>(
        std::lower_bound(kBounds.begin(), kBounds.end(), duration) - kBounds.begin());
    // One writer: no need for atomic additions.
    counts_[bucket].store(counts_[bucket].load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
    sum_.store(sum_.load(std::memory_order_relaxed) + duration.count(), std::memory_order_relaxed);
  }

  [[nodiscard]] Reading read() const {
    Reading reading;
    for (std::size_t i = 0; i < counts_.size(); ++i)
      reading.counts[i] = counts_[i].load(std::memory_order_relaxed);
    reading.sum = Duration{sum_.load(std::memory_order_relaxed)};
    return reading;
  }

 private:
  std::array<std::atomic<std::uint64_t>, kBounds.size() + 1> counts_{};
  std::atomic<Duration::rep> sum_{0};
};

}  // namespace gimbal
