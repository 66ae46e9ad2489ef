#include "apps/spread.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace gimbal::apps {

Spread spread_of(std::vector<double> values) {
  GIMBAL_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {.median = median, .min = values.front(), .max = values.back()};
}

std::string to_text(const Spread& spread, double unit) {
  return fmt::format("{:.4g} ({:.4g} to {:.4g})", spread.median / unit, spread.min / unit,
                     spread.max / unit);
}

nlohmann::json to_json(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

}  // namespace gimbal::apps
