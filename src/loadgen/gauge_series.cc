#include "loadgen/gauge_series.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

namespace gimbal::loadgen {
namespace {

// Quotes inside a label's value are escaped, so that no value looks like this.
bool is_of_an_engine(std::string_view series) {
  constexpr std::string_view kLabel = "engine=\"";
  for (auto at = series.find(kLabel); at != std::string_view::npos;
       at = series.find(kLabel, at + 1)) {
    if (at > 0 && std::string_view("{, ").find(series[at - 1]) != std::string_view::npos) {
      return true;
    }
  }
  return false;
}

}  // namespace

nlohmann::json gauges_over_time(std::span<const GaugeMoment> moments) {
  std::set<std::string> series;
  nlohmann::json times = nlohmann::json::array();
  for (const GaugeMoment& moment : moments) {
    times.push_back(to_ms(moment.time) * 1e-3);
    for (const auto& [name, value] : moment.gauges)
      series.insert(name);
  }
  nlohmann::json gauges = nlohmann::json::object();
  for (const std::string& name : series) {
    nlohmann::json values = nlohmann::json::array();
    for (const GaugeMoment& moment : moments) {
      const auto found = moment.gauges.find(name);
      values.push_back(found == moment.gauges.end() ? nlohmann::json()
                                                    : nlohmann::json(found->second));
    }
    const bool constant = std::all_of(values.begin(), values.end(),
                                      [&](const auto& value) { return value == values.front(); });
    if (!constant || is_of_an_engine(name)) gauges[name] = std::move(values);
  }
  return {{"times", std::move(times)}, {"gauges", std::move(gauges)}};
}

}  // namespace gimbal::loadgen
