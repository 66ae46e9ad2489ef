#pragma once

#include <cstdint>
#include <optional>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// QLLM's protocol: a finite run of ShareGPT requests, some latency-sensitive at random. The paper
// states neither cap; both are swept and reported.
struct QllmMixOptions {
  std::int64_t num_prompts = 1000;
  double latency_sensitive_share = 0.2;
  std::optional<std::int64_t> prompt_cap = 1024;
  std::optional<std::int64_t> output_cap = {};  // 32, 64, 128 or none
};
[[nodiscard]] Result<void> validate(const QllmMixOptions& options);

// Lengths from `lengths` (a ShareGPT trace) where given, else log-normal with ShareGPT's means in
// vLLM's benchmark: 215 tokens in (deviation of the logarithm 1.2), 200 out (1.0). All arrive at 0;
// draw_arrivals with burstiness 1 makes them Poisson. Requires: validate(options).ok(); lengths,
// where given, has requests.
[[nodiscard]] Workload generate_qllm_mix(const QllmMixOptions& options, const Workload* lengths,
                                         Rng& rng);

}  // namespace gimbal::workload
