#pragma once

#include <cstdint>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// The `random` data set of `vllm bench serve`: prompts of about one length, outputs of about
// another; and, beyond it, log-normal ones.
struct RandomLengthsOptions {
  std::int64_t num_prompts = 1000;
  std::int64_t input_len = 1024;
  std::int64_t output_len = 128;
  double range_ratio = 0.0;  // r: lengths are uniform in [⌊len·(1 − r)⌋, ⌈len·(1 + r)⌉]
  // Above 0: lengths are log-normal with those means, and this deviation of their logarithms.
  double sigma = 0.0;
  std::int64_t prefix_len = 0;  // tokens before each prompt that all share
};
[[nodiscard]] Result<void> validate(const RandomLengthsOptions& options);

// All arrive at 0. Requires: validate(options).ok().
[[nodiscard]] Workload generate_random_lengths(const RandomLengthsOptions& options, Rng& rng);

}  // namespace gimbal::workload
