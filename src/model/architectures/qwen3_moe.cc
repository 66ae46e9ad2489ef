#include "model/architectures/architectures.h"

namespace gimbal::model {

// Norms on each query and key head; some layers may be dense; no shared expert.
Blueprint qwen3_moe_blueprint(const model_config::ModelConfig& config) {
  Blueprint model = model_frame(config);
  for (int index = 0; index < config.num_layers(); ++index) {
    const std::string prefix = layer_prefix(index);
    LayerBlueprint& layer = model.layers.emplace_back(attention_layer(config, prefix));
    if (config.is_moe(LayerIndex{index})) {
      add_experts(config, prefix + ".mlp", layer);
    } else {
      layer.dense = gated_ffn(prefix + ".mlp", config.dense_intermediate);
    }
  }
  return model;
}

}  // namespace gimbal::model
