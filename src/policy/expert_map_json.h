#pragma once

#include "base/json.h"
#include "policy/expert_map.h"

namespace gimbal::policy {

// The form of `--expert-map FILE` and of `POST /debug/expert-map`:
//
//   {"version": 3, "layers": [[{"expert": 0, "rank": 1, "fraction": 0.5}, …], …]}
//
// One list a layer of the model, empty for a layer without experts; an entry for each copy of an
// expert. `fraction` may be left out in all entries of an expert, which splits its rows equally.
// Nothing else may be there.
//
// Errors are kInvalidArgument and name layer, expert, field and value.
[[nodiscard]] Result<ExpertMap> expert_map_from_json(const Json& json, const ExpertMapShape& shape);

// Writes every fraction. Ranks that were taken out are simply absent.
[[nodiscard]] Json expert_map_to_json(const ExpertMap& map);

}  // namespace gimbal::policy
