#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gimbal::loadgen {

// What a server says of itself at /metrics, by series as it is written: `name{label="value"}`.
struct MetricPage {
  std::map<std::string, double> counters;  // and the sums and counts of histograms and summaries
  std::map<std::string, double> gauges;
};

// Reads Prometheus' text format. Series without a declared type are left out, as are buckets and
// values that are not finite. Errors name the line.
[[nodiscard]] Result<MetricPage> parse_prometheus_text(std::string_view text);

// By how much a counter rose that is now at `value`. One that fell (the server began anew) counts
// from 0.
[[nodiscard]] double counter_rise(const MetricPage& before, const std::string& series,
                                  double value);
// The same of each counter, for those that rose.
[[nodiscard]] std::map<std::string, double> counter_rises(const MetricPage& before,
                                                          const MetricPage& after);

}  // namespace gimbal::loadgen
