#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cluster/expert_inspector.h"

namespace prometheus {
struct MetricFamily;
}

namespace gimbal::server {

// What the server says of experts that engines share. Thread-safe, as the inspector is.

// GET /debug/experts: of each group its pace, gang counters, services, and map; rows by layer and
// expert, summed over sources and ranks.
[[nodiscard]] std::string describe_experts(const cluster::ExpertInspector& inspector);

// POST /debug/expert-map: the body is a map as policy::expert_map_from_json reads it, with an
// optional "group" (0). Returns the answer's JSON. kInvalidArgument names the field at fault.
[[nodiscard]] Result<std::string> swap_expert_map(cluster::ExpertInspector& inspector,
                                                  std::string_view body);

// The metrics of shared experts, labelled by engine or group.
void add_expert_metrics(const cluster::ExpertInspector& inspector, std::string_view model_name,
                        std::vector<prometheus::MetricFamily>& families);

}  // namespace gimbal::server
