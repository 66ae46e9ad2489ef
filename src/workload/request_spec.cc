#include "workload/request_spec.h"

#include <fmt/format.h>

namespace gimbal::workload {

std::string_view to_string(TrafficClass traffic_class) {
  switch (traffic_class) {
    case TrafficClass::kNone:
      return "";
    case TrafficClass::kLatencySensitive:
      return "LS";
    case TrafficClass::kBestEffort:
      return "BE";
  }
  return "";
}

Result<TrafficClass> parse_traffic_class(std::string_view name) {
  for (const TrafficClass one :
       {TrafficClass::kNone, TrafficClass::kLatencySensitive, TrafficClass::kBestEffort}) {
    if (to_string(one) == name) return one;
  }
  return invalid_argument(fmt::format("a class is LS or BE, not '{}'", name), "class");
}

std::int64_t RequestSpec::prompt_tokens() const {
  std::int64_t tokens = 0;
  for (const PromptPart& part : prompt)
    tokens += part.tokens;
  return tokens;
}

}  // namespace gimbal::workload
