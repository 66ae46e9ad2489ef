#pragma once

#include <string_view>
#include <vector>

#include "cluster/expert_inspector.h"

namespace prometheus {
struct MetricFamily;
}

namespace gimbal::server {

// The metrics of experts that engines share, labelled by engine or group; none where none does.
// Thread-safe, as the inspector is.
void add_expert_metrics(const cluster::ExpertInspector& inspector, std::string_view model_name,
                        std::vector<prometheus::MetricFamily>& families);

}  // namespace gimbal::server
