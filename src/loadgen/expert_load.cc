#include "loadgen/expert_load.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

namespace gimbal::loadgen {
namespace {

bool is_of(std::string_view series, std::string_view name) {
  return series.starts_with(name) && (series.size() == name.size() || series[name.size()] == '{');
}

// The series' label `engine`, -1 without one.
int engine_of(std::string_view series) {
  for (const std::string_view label : {"{engine=\"", ",engine=\""}) {
    const auto at = series.find(label);
    if (at == std::string_view::npos) continue;
    int engine = -1;
    const std::string_view value = series.substr(at + label.size());
    std::from_chars(value.data(), value.data() + value.size(), engine);
    return engine;
  }
  return -1;
}

// By how much one of a counter's series rose.
struct Rise {
  int engine = -1;
  double value = 0.0;
};
std::vector<Rise> rises_of(std::string_view name, const MetricPage& before,
                           const MetricPage& after) {
  std::vector<Rise> rises;
  for (const auto& [series, value] : after.counters) {
    if (!is_of(series, name)) continue;
    rises.push_back({engine_of(series), counter_rise(before, series, value)});
  }
  return rises;
}

double sum_of(const std::vector<Rise>& rises) {
  double sum = 0.0;
  for (const Rise& rise : rises)
    sum += rise.value;
  return sum;
}

std::size_t groups_of(const MetricPage& page) {
  return static_cast<std::size_t>(std::count_if(
      page.gauges.begin(), page.gauges.end(),
      [](const auto& gauge) { return is_of(gauge.first, "gimbal:expert_map_version"); }));
}

std::optional<double> max_over_mean(std::vector<Rise> ranks, std::size_t groups) {
  if (groups == 0 || ranks.empty() || ranks.size() % groups != 0) return {};
  std::sort(ranks.begin(), ranks.end(),
            [](const Rise& a, const Rise& b) { return a.engine < b.engine; });
  const std::size_t size = ranks.size() / groups;
  double busiest = 0.0;
  for (std::size_t first = 0; first < ranks.size(); first += size) {
    double most = 0.0;
    for (std::size_t i = first; i < first + size; ++i)
      most = std::max(most, ranks[i].value);
    busiest += most;
  }
  const double mean = sum_of(ranks) / static_cast<double>(size);
  if (mean <= 0.0) return {};
  return busiest / mean;
}

}  // namespace

ExpertLoad expert_load(const MetricPage& before, const MetricPage& after) {
  ExpertLoad load;
  load.rank_load_max_over_mean =
      max_over_mean(rises_of("gimbal:expert_service_rows_total", before, after), groups_of(after));
  const double distinct = sum_of(rises_of("gimbal:distinct_experts_total", before, after));
  const double steps = sum_of(rises_of("gimbal:steps_total", before, after));
  if (distinct > 0.0 && steps > 0.0) load.distinct_experts_per_step = distinct / steps;
  if (groups_of(after) > 0) {
    load.exchange_bytes = sum_of(rises_of("gimbal:expert_exchange_in_bytes_total", before, after)) +
                          sum_of(rises_of("gimbal:expert_exchange_out_bytes_total", before, after));
  }
  return load;
}

}  // namespace gimbal::loadgen
