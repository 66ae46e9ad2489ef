#include "model/architectures/architectures.h"

namespace gimbal::model {

Blueprint llama_blueprint(const model_config::ModelConfig& config) {
  Blueprint model = model_frame(config);
  for (int index = 0; index < config.num_layers(); ++index) {
    const std::string prefix = layer_prefix(index);
    LayerBlueprint& layer = model.layers.emplace_back(attention_layer(config, prefix));
    layer.dense = gated_ffn(prefix + ".mlp", config.dense_intermediate);
  }
  return model;
}

}  // namespace gimbal::model
