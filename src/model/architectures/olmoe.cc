#include "model/architectures/architectures.h"

namespace gimbal::model {

// Norms over the whole query and key projections; every layer is MoE; plain top-k by default.
Blueprint olmoe_blueprint(const model_config::ModelConfig& config) {
  Blueprint model = model_frame(config);
  for (int index = 0; index < config.num_layers(); ++index) {
    const std::string prefix = layer_prefix(index);
    LayerBlueprint& layer = model.layers.emplace_back(attention_layer(config, prefix));
    add_experts(config, prefix + ".mlp", layer);
  }
  return model;
}

}  // namespace gimbal::model
