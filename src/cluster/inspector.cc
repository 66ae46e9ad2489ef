#include "cluster/inspector.h"

#include <algorithm>

#include "cluster/decision_json.h"
#include "cluster/dispatcher.h"
#include "cluster/json_fields.h"
#include "cluster/struct_fields.h"

namespace gimbal::cluster {
namespace {

const char* name_of(policy::Freshness freshness) {
  switch (freshness) {
    case policy::Freshness::kFresh:
      return "fresh";
    case policy::Freshness::kStale:
      return "stale";
    case policy::Freshness::kLedgerOnly:
      return "ledger-only";
    case policy::Freshness::kExcluded:
      return "excluded";
  }
  return "unknown";
}

// By rank: 58 layers of 32 ranks would hide the rest. /debug/experts has them.
Json work_to_json(const ExpertWork& work) {
  if (work.ranks == 0) return nullptr;
  return {{"rows", by_rank(work.rows, work.ranks)},
          {"distinct_experts", by_rank(work.distinct_experts, work.ranks)}};
}

}  // namespace

DispatchStatus dispatch_status_of(const Dispatcher& dispatcher) {
  return {.rule = dispatcher.options().rule,
          .late = dispatcher.options().late,
          .queued_groups = dispatcher.queued_groups(),
          .queued_prefill_tokens = dispatcher.queued_prefill_tokens(),
          .reasons = dispatcher.log().reasons()};
}

EngineStatus engine_status_of(const Dispatcher& dispatcher, EngineId engine, TimePoint now) {
  const EngineWatch& watch = dispatcher.watch(engine);
  return {.engine = engine,
          .snapshot = {},
          .expert_work = {},
          .failure = {},
          .view = dispatcher.view(engine, now),
          .expert_pressure = dispatcher.expert_pressure(engine),
          .predicted_step_ms = watch.predicted_step_ms(),
          .excluded_ms = std::max(0.0, to_ms(watch.excluded_until() - now)),
          .dispatched = dispatcher.dispatched(engine)};
}

Json status_to_json(const std::vector<EngineStatus>& engines, const DispatchStatus& dispatch) {
  Json list = Json::array();
  for (const EngineStatus& engine : engines) {
    const policy::EngineView& view = engine.view;
    const auto usage = view.kv_usage();
    list.push_back({{"engine", engine.engine.value()},
                    {"healthy", engine.healthy},
                    {"failure", engine.failure},
                    {"freshness", name_of(view.freshness)},
                    {"age_ms", view.age_ms},
                    {"expert_pressure",
                     engine.expert_pressure ? Json(*engine.expert_pressure) : Json(nullptr)},
                    {"predicted_step_ms", engine.predicted_step_ms},
                    {"excluded_ms", engine.excluded_ms},
                    {"dispatched", engine.dispatched},
                    {"kv_usage", usage ? Json(*usage) : Json(nullptr)},
                    {"expert_work", work_to_json(engine.expert_work)},
                    {"view", write_fields(view)},
                    {"snapshot", snapshot_to_json(engine.snapshot)}});
  }
  Json reasons = Json::object();
  for (int i = 0; i < policy::kDispatchReasons; ++i) {
    const auto count = dispatch.reasons[static_cast<std::size_t>(i)];
    if (count > 0) reasons[policy::to_string(static_cast<policy::DispatchReason>(i))] = count;
  }
  return {{"engines", std::move(list)},
          {"dispatch",
           {{"rule", dispatch.rule},
            {"binding", dispatch.late ? "late" : "early"},
            {"queued_groups", dispatch.queued_groups},
            {"queued_prefill_tokens", dispatch.queued_prefill_tokens},
            {"decisions", std::move(reasons)}}}};
}

}  // namespace gimbal::cluster
