#include "cluster/decision_json.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "cluster/json_fields.h"
#include "cluster/struct_fields.h"
#include "policy/late_binding.h"

namespace gimbal::cluster {
namespace {

Result<policy::DispatchReason> reason_from(const Json& json) {
  if (json.contains("reason") && json.at("reason").is_string()) {
    const auto& name = json.at("reason").get_ref<const std::string&>();
    for (int i = 0; i < policy::kDispatchReasons; ++i) {
      const auto reason = static_cast<policy::DispatchReason>(i);
      if (policy::to_string(reason) == name) return reason;
    }
  }
  return invalid_argument("reason must be the name of a reason, is " +
                              (json.contains("reason") ? excerpt(json.at("reason")) : "absent"),
                          "reason");
}

Result<void> check_engine(const char* name, std::int64_t engine, std::size_t count) {
  if (engine >= 0 && static_cast<std::size_t>(engine) < count) return {};
  return invalid_argument(
      fmt::format("{} must be one of the {} engines from 0 on, is {}", name, count, engine), name);
}

bool is_held(const DecisionRecord& record) {
  return record.reason == policy::DispatchReason::kHeldForWork ||
         record.reason == policy::DispatchReason::kHeldForPages;
}

// An engine with scores, or none of a request that is held.
Result<void> check_outcome(const DecisionRecord& record) {
  const bool held = is_held(record);
  if (held && (record.engine != -1 || !record.late_steps)) {
    return invalid_argument(
        fmt::format("engine must be -1, with late_steps, of a request that is held, is {}",
                    record.engine),
        "engine");
  }
  const std::size_t scores = held ? 0 : record.engines.size();
  if (record.scores.size() != scores) {
    return invalid_argument(fmt::format("scores must be {}, are {}", scores, record.scores.size()),
                            "scores");
  }
  return held ? Result<void>() : check_engine("engine", record.engine, record.engines.size());
}

Result<void> check_experts(const policy::ExpertShape& experts) {
  if (experts.choices_per_row >= 0 && experts.experts >= 0) return {};
  return invalid_argument(fmt::format("experts must be at least 0, are {} with {} choices a row",
                                      experts.experts, experts.choices_per_row),
                          "experts");
}

}  // namespace

Json decision_to_json(const DecisionRecord& record) {
  Json json = write_fields(record);
  json["reason"] = std::string(policy::to_string(record.reason));
  return json;
}

Result<DecisionRecord> decision_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(DecisionRecord record, read_fields<DecisionRecord>(json));
  GIMBAL_ASSIGN_OR_RETURN(record.reason, reason_from(json));
  if (record.engines.empty()) {
    return invalid_argument("engines must be at least one, are none", "engines");
  }
  GIMBAL_RETURN_IF_ERROR(check_outcome(record));
  const std::size_t engines = record.engines.size();
  if (record.request.pinned)
    GIMBAL_RETURN_IF_ERROR(check_engine("pinned", *record.request.pinned, engines));
  if (record.request.last_engine)
    GIMBAL_RETURN_IF_ERROR(check_engine("last_engine", *record.request.last_engine, engines));
  GIMBAL_RETURN_IF_ERROR(check_experts(record.options.first_costs.experts));
  for (const policy::EngineView& engine : record.engines) {
    if (engine.costs) GIMBAL_RETURN_IF_ERROR(check_experts(engine.costs->experts));
  }
  GIMBAL_RETURN_IF_ERROR(policy::make_dispatch(record.rule, record.options));
  return record;
}

policy::DispatchDecision decide_again(const DecisionRecord& record) {
  policy::DispatchDecision decision;
  if (is_held(record)) {
    std::vector<policy::EngineView> engines = record.engines;
    const auto why = policy::limit_to_soon(record.request, *record.late_steps, engines);
    if (why != policy::LateHold::kNone) decision.reason = policy::reason_of(why);
    return decision;
  }
  const auto rule = policy::make_dispatch(record.rule, record.options);
  GIMBAL_CHECK(rule.ok());
  (*rule)->choose({.request = record.request,
                   .engines = record.engines,
                   .turn = record.turn,
                   .random = record.random},
                  decision);
  return decision;
}

bool decides_the_same(const DecisionRecord& record) {
  const policy::DispatchDecision again = decide_again(record);
  return again.engine == record.engine && again.reason == record.reason &&
         again.scores == record.scores;
}

Json snapshot_to_json(const EngineSnapshot& snapshot) {
  return write_fields(snapshot);
}

Result<EngineSnapshot> snapshot_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(EngineSnapshot snapshot, read_fields<EngineSnapshot>(json));
  GIMBAL_RETURN_IF_ERROR(check_experts(snapshot.experts));
  return snapshot;
}

}  // namespace gimbal::cluster
