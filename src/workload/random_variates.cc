#include "workload/random_variates.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace gimbal::workload {
namespace {

// Uniform in (0, 1]: the logarithm of it is finite.
double positive_uniform(Rng& rng) {
  return 1.0 - rng.uniform();
}

}  // namespace

double standard_normal(Rng& rng) {
  const double radius = std::sqrt(-2.0 * std::log(positive_uniform(rng)));
  return radius * std::cos(2.0 * std::numbers::pi * rng.uniform());
}

double gamma(Rng& rng, double shape) {
  GIMBAL_CHECK(shape > 0.0);
  if (shape < 1.0) {
    return gamma(rng, shape + 1.0) * std::pow(positive_uniform(rng), 1.0 / shape);
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = standard_normal(rng);
    const double root = 1.0 + c * x;
    if (root <= 0.0) continue;
    const double v = root * root * root;
    if (std::log(positive_uniform(rng)) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

double exponential(Rng& rng, double mean) {
  GIMBAL_CHECK(mean >= 0.0);
  return -mean * std::log(positive_uniform(rng));
}

double log_normal(Rng& rng, double mean, double sigma) {
  GIMBAL_CHECK(mean > 0.0 && sigma >= 0.0);
  return std::exp(std::log(mean) - 0.5 * sigma * sigma + sigma * standard_normal(rng));
}

std::int64_t geometric(Rng& rng, double mean) {
  GIMBAL_CHECK(mean >= 1.0);
  if (mean == 1.0) return 1;
  const double failure = 1.0 - 1.0 / mean;
  return 1 + static_cast<std::int64_t>(std::log(positive_uniform(rng)) / std::log(failure));
}

}  // namespace gimbal::workload
