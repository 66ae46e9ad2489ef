#pragma once

#include <optional>

#include "loadgen/prometheus_text.h"

namespace gimbal::loadgen {

// What the experts of a Gimbal server did between two readings of its counters.
struct ExpertLoad {
  // (row, expert) pairs that the busiest rank of a group ran over those of its mean rank; of
  // several groups the sum of the former over that of the latter. Of all the time together: what
  // evens out from step to step is not seen. Absent where no engines share experts, or none ran.
  std::optional<double> rank_load_max_over_mean = {};
  // Experts whose weights were read in a step of an engine, summed over layers. What a run of
  // shared experts reads for several engines is divided among them by rows. Absent where none were
  // read.
  std::optional<double> distinct_experts_per_step = {};
  // Rows that went to experts at other engines, and outputs that came back, in bytes. Absent where
  // no engines share experts.
  std::optional<double> exchange_bytes = {};
};

// From `gimbal:expert_service_rows_total`, `gimbal:distinct_experts_total`, `gimbal:steps_total`
// and `gimbal:expert_exchange_{in,out}_bytes_total`; groups are those of
// `gimbal:expert_map_version`, of as many consecutive engines each.
[[nodiscard]] ExpertLoad expert_load(const MetricPage& before, const MetricPage& after);

}  // namespace gimbal::loadgen
