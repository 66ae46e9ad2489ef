#pragma once

#include "base/json.h"

namespace gimbal::model_config {

// config.json as published with models of each family: what tests begin from.
[[nodiscard]] Json mixtral_8x7b();
[[nodiscard]] Json qwen15_moe_a27b();
[[nodiscard]] Json qwen3_30b_a3b();
[[nodiscard]] Json olmoe_1b_7b();
[[nodiscard]] Json llama_31_8b();
[[nodiscard]] Json qwen3_8b();

}  // namespace gimbal::model_config
