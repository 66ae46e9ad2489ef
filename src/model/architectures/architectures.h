#pragma once

#include "model/blueprint.h"
#include "model_config/model_config.h"

namespace gimbal::model {

// Where the tensors of each family's published checkpoints belong. One file a family; all are
// composed of the shared parts of model/blueprint.h. See docs/adding-a-model.md.
[[nodiscard]] Blueprint llama_blueprint(const model_config::ModelConfig& config);
[[nodiscard]] Blueprint qwen3_blueprint(const model_config::ModelConfig& config);
[[nodiscard]] Blueprint mixtral_blueprint(const model_config::ModelConfig& config);
[[nodiscard]] Blueprint qwen2_moe_blueprint(const model_config::ModelConfig& config);
[[nodiscard]] Blueprint qwen3_moe_blueprint(const model_config::ModelConfig& config);
[[nodiscard]] Blueprint olmoe_blueprint(const model_config::ModelConfig& config);

// The blueprint of config.family: the table of families.
[[nodiscard]] Blueprint blueprint_of(const model_config::ModelConfig& config);

}  // namespace gimbal::model
