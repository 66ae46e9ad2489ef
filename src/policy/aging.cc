#include "policy/aging.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::policy {
namespace {

constexpr double kTolerance = 1.05;
constexpr Duration kSlack = std::chrono::milliseconds(10);
constexpr double kFactor = 1.5;
constexpr double kLeast = 0.01;
constexpr double kMost = 10;

}  // namespace

Duration wait_p99(std::span<Duration> waits) {
  GIMBAL_CHECK(!waits.empty());
  const std::size_t rank = (99 * waits.size() + 99) / 100;
  const auto at = waits.begin() + static_cast<std::ptrdiff_t>(rank - 1);
  std::nth_element(waits.begin(), at, waits.end());
  return *at;
}

double next_aging(double aging, Duration p99, Duration fcfs_p99) {
  if (to_ms(p99) > kTolerance * to_ms(fcfs_p99) && p99 > fcfs_p99 + kSlack) {
    aging *= kFactor;
  } else if (p99 < fcfs_p99) {
    aging /= kFactor;
  }
  return std::clamp(aging, kLeast, kMost);
}

}  // namespace gimbal::policy
