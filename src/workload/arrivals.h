#pragma once

#include <optional>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

struct ArrivalOptions {
  std::optional<double> rate = {};  // requests a second; absent: all arrive at 0
  // Shape of the gamma law of the gaps: 1 Poisson, below it burstier (a gap's coefficient of
  // variation is 1/√shape; BurstGPT's traffic is about 0.25), above it more even.
  double burstiness = 1.0;
};

// Errors name the option at fault.
[[nodiscard]] Result<void> validate(const ArrivalOptions& options);

// Draws all arrivals anew: gamma gaps, stretched so that the last of N requests arrives at exactly
// N/rate, as `vllm bench serve` does, so that every seed offers the same load. Keeps the requests'
// order. Requires: validate(options).ok().
void draw_arrivals(Workload& workload, const ArrivalOptions& options, Rng& rng);

// Keeps the pattern of arrivals and stretches time so that the last arrives at N/rate. All at 0
// stay there. Requires: rate > 0.
void rescale_arrivals(Workload& workload, double rate);

}  // namespace gimbal::workload
