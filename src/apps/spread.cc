#include "apps/spread.h"

#include <algorithm>

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

}  // namespace gimbal::apps
