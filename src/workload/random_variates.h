#pragma once

#include <cstdint>

#include "base/random.h"

namespace gimbal::workload {

// Draws from distributions that are the same on every standard library (those of <random> are not).

// Normal with mean 0 and deviation 1 (Box and Muller).
[[nodiscard]] double standard_normal(Rng& rng);

// Gamma with this shape and scale 1 (Marsaglia and Tsang, 2000; below shape 1 by their boost).
// Requires: shape > 0.
[[nodiscard]] double gamma(Rng& rng, double shape);

// Exponential with this mean. Requires: mean >= 0.
[[nodiscard]] double exponential(Rng& rng, double mean);

// Log-normal with this mean, whose logarithm has deviation `sigma`. Requires: mean > 0, sigma >= 0.
[[nodiscard]] double log_normal(Rng& rng, double mean, double sigma);

// The number of trials up to the first success, with this mean. Requires: mean >= 1.
[[nodiscard]] std::int64_t geometric(Rng& rng, double mean);

}  // namespace gimbal::workload
