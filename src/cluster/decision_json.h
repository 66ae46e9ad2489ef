#pragma once

#include "base/json.h"
#include "base/result.h"
#include "cluster/decision_log.h"
#include "cluster/engine.h"

namespace gimbal::cluster {

// A decision as JSON: one line of `serve --decisions FILE` and an entry of `/debug/decisions`.
// Times are nanoseconds, unknown values are null, doubles are written so that they read back
// exactly.
[[nodiscard]] Json decision_to_json(const DecisionRecord& record);

// Errors name the field: a wrong type, a number beyond ±1e15, an unknown rule or reason, an option
// out of range, an engine that is none of the record's.
[[nodiscard]] Result<DecisionRecord> decision_from_json(const Json& json);

// Decides again from the record's inputs. Requires: a record that decision_from_json took, or that
// a dispatcher made.
[[nodiscard]] policy::DispatchDecision decide_again(const DecisionRecord& record);
// Whether that is what the record says, score by score.
[[nodiscard]] bool decides_the_same(const DecisionRecord& record);

// A snapshot, as records of a dispatcher's events hold it.
[[nodiscard]] Json snapshot_to_json(const EngineSnapshot& snapshot);
[[nodiscard]] Result<EngineSnapshot> snapshot_from_json(const Json& json);

}  // namespace gimbal::cluster
