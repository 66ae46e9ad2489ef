#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "base/clock.h"

namespace gimbal::loadgen {

// A server's gauges at one moment.
struct GaugeMoment {
  Duration time{};
  std::map<std::string, double> gauges;
};

// {"times": in seconds, "gauges": {series: one value or null for each time}}. Gauges that were the
// same throughout are left out, but not those of one engine (label `engine`): an idle engine
// belongs beside the busy ones.
[[nodiscard]] nlohmann::json gauges_over_time(std::span<const GaugeMoment> moments);

}  // namespace gimbal::loadgen
