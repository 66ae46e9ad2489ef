#pragma once

#include <span>
#include <vector>

namespace gimbal::report {

// The values of one measured quantity, and what is usually said of them. Value type. The
// definitions are numpy's, which `vllm bench serve` uses, so that numbers can be held against each
// other. All statistics of an empty sample are 0.
class Sample {
 public:
  Sample() = default;
  // Requires: every value is finite.
  explicit Sample(std::vector<double> values);

  [[nodiscard]] std::span<const double> sorted() const { return sorted_; }
  [[nodiscard]] std::size_t size() const { return sorted_.size(); }
  [[nodiscard]] bool empty() const { return sorted_.empty(); }

  [[nodiscard]] double mean() const;
  // Of the population: the root of the mean squared distance from the mean.
  [[nodiscard]] double standard_deviation() const;
  // Linear between the two order statistics around p/100 · (size − 1). Requires: 0 <= p <= 100.
  [[nodiscard]] double percentile(double p) const;
  [[nodiscard]] double median() const { return percentile(50.0); }
  [[nodiscard]] double min() const { return empty() ? 0.0 : sorted_.front(); }
  [[nodiscard]] double max() const { return empty() ? 0.0 : sorted_.back(); }

 private:
  std::vector<double> sorted_;
};

}  // namespace gimbal::report
