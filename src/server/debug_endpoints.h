#pragma once

#include <string_view>
#include <vector>

#include "cluster/inspector.h"
#include "server/http_message.h"
#include "server/serving_context.h"

namespace gimbal::server {

// GET /debug/engines: all engines as the dispatcher sees them, with ages, as one JSON document. One
// engine without a dispatcher is shown as it shows itself.
[[nodiscard]] HttpResponse debug_engines(const ServingContext& context);

// GET /debug/decisions?request=ID: the decisions about a request, of dispatch ("decisions") and of
// order ("orders"), by the id of its answer or by an engine's number of it; without an id the last
// 100 of each. 404: no decision is known of it.
[[nodiscard]] HttpResponse debug_decisions(const ServingContext& context, std::string_view query);

// GET /debug/experts: experts that engines share, see cluster::experts_to_json, and in "sources"
// what each engine's rows made experts do, see cluster::sources_to_json.
[[nodiscard]] HttpResponse debug_experts(const ServingContext& context);

// POST /debug/expert-map: swaps the map of a group, see cluster::swap_expert_map. 400: no map of
// these engines.
[[nodiscard]] HttpResponse debug_swap_map(const ServingContext& context, std::string_view body);

// The engines behind the context, for /debug/engines and /metrics.
[[nodiscard]] std::vector<cluster::EngineStatus> engine_status(const ServingContext& context);

}  // namespace gimbal::server
