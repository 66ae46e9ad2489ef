#pragma once

#include <vector>

#include "base/json.h"
#include "model_config/family_traits.h"
#include "model_config/model_config.h"

namespace gimbal::model_config {

// Which of `layers` layers are MoE and which attend through a sliding window, by the family's
// rules. `experts` is what the config gives, 0 for dense families. `object` is what `config` reads.
[[nodiscard]] Result<std::vector<LayerConfig>> read_layers(JsonObject& config, const Json& object,
                                                           const FamilyTraits& traits, int layers,
                                                           int experts);

}  // namespace gimbal::model_config
