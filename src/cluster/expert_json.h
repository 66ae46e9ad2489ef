#pragma once

#include <span>

#include "base/json.h"
#include "base/result.h"
#include "cluster/expert_inspector.h"
#include "cluster/inspector.h"

namespace gimbal::cluster {

// What is said of experts that engines share (GET /debug/experts): of each group its pace, gang
// counters, services, and map; rows by layer and expert, summed over sources and ranks.
[[nodiscard]] Json experts_to_json(const ExpertInspector& inspector);

// What each engine's rows made experts do (the same page): rows and distinct experts,
// [layers][ranks of its group]. Engines of which nothing is known are left out.
[[nodiscard]] Json sources_to_json(std::span<const EngineStatus> engines);

// Swaps a group's map (POST /debug/expert-map). `request` is a map as policy::expert_map_from_json
// reads it, with an optional "group" (0). Returns group and version. kInvalidArgument names the
// field at fault.
[[nodiscard]] Result<Json> swap_expert_map(ExpertInspector& inspector, Json request);

// Mean over the greatest load of a rank, in rows: 1 is even (DeepSeek's balancedness).
[[nodiscard]] double balancedness(const GroupReading& group);

}  // namespace gimbal::cluster
