#pragma once

#include <cstddef>
#include <optional>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// No request arrives later than this, about 127 years: any two differ by what a Duration holds.
inline constexpr double kMaxArrivalSeconds = 4e9;

struct ArrivalOptions {
  std::optional<double> rate = {};  // requests a second; absent: all arrive at 0
  // Shape of the gamma law of the gaps: 1 Poisson, below it burstier (a gap's coefficient of
  // variation is 1/√shape; BurstGPT's traffic is about 0.25), above it more even.
  double burstiness = 1.0;
};

// For so many requests. Errors name the option at fault.
[[nodiscard]] Result<void> validate(const ArrivalOptions& options, std::size_t requests = 1);

// Draws all arrivals anew: gamma gaps, stretched so that the last of N requests arrives at exactly
// N/rate, as `vllm bench serve` does, so that every seed offers the same load. Keeps the requests'
// order. Requires: validate(options, number of requests).ok().
void draw_arrivals(Workload& workload, const ArrivalOptions& options, Rng& rng);

// Keeps the pattern of arrivals and stretches time so that the last arrives at N/rate. All at 0
// stay there. Requires: as draw_arrivals.
void rescale_arrivals(Workload& workload, double rate);

}  // namespace gimbal::workload
