#pragma once

#include "base/json.h"
#include "model_config/family_traits.h"

namespace gimbal::model_config {

// An error that names the first field that asks for something which changes the output and which
// this program does not do. Values that ask for nothing (null, false, 0, {}) pass.
[[nodiscard]] Result<void> refuse_unsupported_fields(JsonObject& config,
                                                     const FamilyTraits& traits);

// Marks the fields that cannot change what a model computes at inference.
void skip_harmless_fields(JsonObject& config);

}  // namespace gimbal::model_config
