#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
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

// "median (min to max)", in units of `unit`, to four digits.
[[nodiscard]] std::string to_text(const Spread& spread, double unit);
[[nodiscard]] nlohmann::json to_json(const Spread& spread);

}  // namespace gimbal::apps
