#pragma once

#include <vector>

namespace gimbal::apps {

// What repetitions of one measurement came to.
struct Spread {
  double median = 0.0;
  double min = 0.0;
  double max = 0.0;
};

// The median of an even number of values is the mean of the middle two.
// Requires: values is not empty.
[[nodiscard]] Spread spread_of(std::vector<double> values);

}  // namespace gimbal::apps
