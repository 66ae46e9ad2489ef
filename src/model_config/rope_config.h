#pragma once

#include "base/json.h"
#include "model_config/model_config.h"

namespace gimbal::model_config {

// Reads the rotary embedding's fields of a config.json: `rope_parameters`, or `rope_scaling` with
// `rope_theta` beside it. `max_positions` stands in for an absent original context length.
[[nodiscard]] Result<RopeConfig> read_rope_config(JsonObject& config, double default_theta,
                                                  int max_positions,
                                                  std::vector<std::string>& unknown_fields);

// max_positions, or more where `rope` was made to stretch it; at most `limit`.
[[nodiscard]] int context_length_of(const RopeConfig& rope, int max_positions, int limit);

}  // namespace gimbal::model_config
