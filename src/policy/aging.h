#pragma once

#include <span>

#include "base/clock.h"

namespace gimbal::policy {

// The 99th percentile, by nearest rank: of n waits the ⌈0.99·n⌉-th smallest. Reorders `waits`.
// Requires: not empty.
[[nodiscard]] Duration wait_p99(std::span<Duration> waits);

// The controller of `--aging auto`: how to move a of sjf-aging, given the p99 of what a window of
// requests waited and the p99 of what the same requests would have waited in order of arrival.
//
//   worse than fcfs by over 5 % and 10 ms   a · 1.5    towards arrival order: old requests count
//   more better than fcfs                        a / 1.5    towards job size: the mean falls
//   between                                 a
//
// a stays in [0.01, 10]: below, p99 can be a third over that of fcfs before a window shows it;
// above, the order is that of arrival, for waits are longer than jobs.
//
// Limits: it looks back over a window, so a change of load is answered some windows later, and with
// fewer than some hundred requests "p99" is nearly the longest wait. It cannot help where p99 does
// not come from the order: priorities outweigh a, and a request that lacks pages or a slot waits
// whatever its key.
[[nodiscard]] double next_aging(double aging, Duration p99, Duration fcfs_p99);

}  // namespace gimbal::policy
