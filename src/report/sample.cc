#include "report/sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace gimbal::report {

Sample::Sample(std::vector<double> values) : sorted_(std::move(values)) {
  GIMBAL_CHECK(std::all_of(sorted_.begin(), sorted_.end(),
                           [](double value) { return std::isfinite(value); }));
  std::sort(sorted_.begin(), sorted_.end());
}

double Sample::mean() const {
  if (empty()) return 0.0;
  return std::accumulate(sorted_.begin(), sorted_.end(), 0.0) / static_cast<double>(size());
}

double Sample::standard_deviation() const {
  if (empty()) return 0.0;
  const double center = mean();
  double squares = 0.0;
  for (const double value : sorted_) {
    squares += (value - center) * (value - center);
  }
  return std::sqrt(squares / static_cast<double>(size()));
}

double Sample::percentile(double p) const {
  GIMBAL_CHECK(p >= 0.0 && p <= 100.0);
  if (empty()) return 0.0;
  const double place = p / 100.0 * static_cast<double>(size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, size() - 1);
  return std::lerp(sorted_[below], sorted_[above], place - static_cast<double>(below));
}

}  // namespace gimbal::report
