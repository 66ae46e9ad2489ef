#pragma once

#include <cstdint>
#include <span>

#include "base/function_ref.h"

namespace gimbal::report {

// An estimate, and where it would lie for most repetitions of the experiment.
struct Interval {
  double estimate = 0.0;
  double low = 0.0;
  double high = 0.0;
};

struct BootstrapOptions {
  int resamples = 2000;
  double confidence = 0.95;  // in (0, 1)
  std::uint64_t seed = 1;    // the same seed and values give the same interval
};

using Statistic = FunctionRef<double(std::span<const double>)>;

// Percentile bootstrap (Efron, 1979): the statistic of `resamples` draws with replacement, between
// its (1 ∓ confidence)/2 quantiles. Of no values: zeros; of one value: that value, without width,
// because one run says nothing about spread. The statistic may reorder nothing and keep nothing.
[[nodiscard]] Interval bootstrap(std::span<const double> values, Statistic statistic,
                                 const BootstrapOptions& options = {});

// The same for the mean.
[[nodiscard]] Interval bootstrap_mean(std::span<const double> values,
                                      const BootstrapOptions& options = {});

// mean over i of changed[i] / base[i]: runs that share a seed, i.e. the same requests at the same
// times. Pairs are resampled together. Requires: equal sizes, every base[i] != 0.
[[nodiscard]] Interval bootstrap_paired_ratio(std::span<const double> base,
                                              std::span<const double> changed,
                                              const BootstrapOptions& options = {});

// statistic(changed) / statistic(base) of unrelated values, each resampled on its own. A resample
// whose base statistic is 0 is left out. Requires: statistic(base) != 0.
[[nodiscard]] Interval bootstrap_ratio(std::span<const double> base,
                                       std::span<const double> changed, Statistic statistic,
                                       const BootstrapOptions& options = {});

}  // namespace gimbal::report
