#include "report/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "report/sample.h"

namespace gimbal::report {
namespace {

constexpr auto kMean = [](std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
};

void draw(std::span<const double> values, Rng& rng, std::vector<double>& drawn) {
  drawn.resize(values.size());
  for (double& value : drawn) {
    value = values[rng.below(values.size())];
  }
}

Interval around(double estimate, std::vector<double> resampled, double confidence) {
  GIMBAL_CHECK(confidence > 0.0 && confidence < 1.0);
  // Sums of the largest numbers that there are.
  std::erase_if(resampled, [](double value) { return !std::isfinite(value); });
  if (resampled.empty()) return {.estimate = estimate, .low = estimate, .high = estimate};
  const Sample sample(std::move(resampled));
  const double tail = (1.0 - confidence) / 2.0 * 100.0;
  return {.estimate = estimate,
          .low = sample.percentile(tail),
          .high = sample.percentile(100.0 - tail)};
}

}  // namespace

Interval bootstrap(std::span<const double> values, Statistic statistic,
                   const BootstrapOptions& options) {
  if (values.empty()) return {};
  const double estimate = statistic(values);
  std::vector<double> resampled;
  if (values.size() > 1) {
    Rng rng(options.seed);
    std::vector<double> drawn;
    for (int i = 0; i < options.resamples; ++i) {
      draw(values, rng, drawn);
      resampled.push_back(statistic(drawn));
    }
  }
  return around(estimate, std::move(resampled), options.confidence);
}

Interval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options) {
  return bootstrap(values, kMean, options);
}

Interval bootstrap_paired_ratio(std::span<const double> base, std::span<const double> changed,
                                const BootstrapOptions& options) {
  GIMBAL_CHECK(base.size() == changed.size());
  std::vector<double> ratios;
  for (std::size_t i = 0; i < base.size(); ++i) {
    GIMBAL_CHECK(base[i] != 0.0);
    ratios.push_back(changed[i] / base[i]);
  }
  return bootstrap_mean(ratios, options);
}

Interval bootstrap_ratio(std::span<const double> base, std::span<const double> changed,
                         Statistic statistic, const BootstrapOptions& options) {
  if (base.empty() || changed.empty()) return {};
  const double denominator = statistic(base);
  GIMBAL_CHECK(denominator != 0.0);
  std::vector<double> resampled;
  if (base.size() > 1 || changed.size() > 1) {
    Rng rng(options.seed);
    std::vector<double> drawn;
    for (int i = 0; i < options.resamples; ++i) {
      draw(base, rng, drawn);
      const double below = statistic(drawn);
      draw(changed, rng, drawn);
      const double above = statistic(drawn);
      if (below != 0.0) resampled.push_back(above / below);
    }
  }
  return around(statistic(changed) / denominator, std::move(resampled), options.confidence);
}

}  // namespace gimbal::report
