#include "apps/number_range.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

namespace gimbal::apps {
namespace {

template <class Fits>
CLI::Validator range(const std::string& description, const std::string& expected, Fits fits) {
  return CLI::Validator(
      [expected, fits](std::string& input) {
        double value = 0;
        if (CLI::detail::lexical_cast(input, value) && std::isfinite(value) && fits(value))
          return std::string();
        return fmt::format("must be {}, is {}", expected, input);
      },
      description);
}

}  // namespace

CLI::Validator at_least_zero() {
  return range("NONNEGATIVE", "at least 0", [](double value) { return value >= 0; });
}

CLI::Validator above_zero() {
  return range("POSITIVE", "above 0", [](double value) { return value > 0; });
}

CLI::Validator number_range(double low, double high) {
  return range(fmt::format("in [{} - {}]", low, high), fmt::format("from {} to {}", low, high),
               [low, high](double value) { return value >= low && value <= high; });
}

CLI::Validator zero_or_range(double low, double high) {
  return range(fmt::format("0 or in [{} - {}]", low, high),
               fmt::format("0 or from {} to {}", low, high),
               [low, high](double value) { return value == 0 || (value >= low && value <= high); });
}

}  // namespace gimbal::apps
