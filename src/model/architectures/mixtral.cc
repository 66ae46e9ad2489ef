#include "model/architectures/architectures.h"

namespace gimbal::model {

// Mixtral names its experts' projections w1 (gate), w3 (up) and w2 (down).
Blueprint mixtral_blueprint(const model_config::ModelConfig& config) {
  Blueprint model = model_frame(config);
  for (int index = 0; index < config.num_layers(); ++index) {
    const std::string prefix = layer_prefix(index);
    LayerBlueprint& layer = model.layers.emplace_back(attention_layer(config, prefix));
    const std::string block = prefix + ".block_sparse_moe";
    add_experts(config, block, layer);
    for (std::size_t expert = 0; expert < layer.experts.size(); ++expert) {
      const std::string name = block + ".experts." + std::to_string(expert);
      layer.experts[expert].gate = name + ".w1.weight";
      layer.experts[expert].up = name + ".w3.weight";
      layer.experts[expert].down = name + ".w2.weight";
    }
  }
  return model;
}

}  // namespace gimbal::model
