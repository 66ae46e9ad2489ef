#include "model/architectures/architectures.h"

namespace gimbal::model {

// MoE layers have a shared expert behind a sigmoid gate; some layers may be dense.
Blueprint qwen2_moe_blueprint(const model_config::ModelConfig& config) {
  Blueprint model = model_frame(config);
  for (int index = 0; index < config.num_layers(); ++index) {
    const std::string prefix = layer_prefix(index);
    LayerBlueprint& layer = model.layers.emplace_back(attention_layer(config, prefix));
    const std::string mlp = prefix + ".mlp";
    if (!config.is_moe(LayerIndex{index})) {
      layer.dense = gated_ffn(mlp, config.dense_intermediate);
      continue;
    }
    add_experts(config, mlp, layer);
    if (config.shared_intermediate > 0) {
      layer.shared_expert = gated_ffn(mlp + ".shared_expert", config.shared_intermediate);
      layer.shared_expert_gate = ProjectionBlueprint{.weight = mlp + ".shared_expert_gate.weight",
                                                     .bias = {},
                                                     .out = 1,
                                                     .in = config.hidden_size};
    }
  }
  return model;
}

}  // namespace gimbal::model
