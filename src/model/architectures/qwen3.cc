#include "model/architectures/architectures.h"

namespace gimbal::model {

// Llama's tensors, with norms on each query and key head (ModelConfig::qk_norm).
Blueprint qwen3_blueprint(const model_config::ModelConfig& config) {
  return llama_blueprint(config);
}

}  // namespace gimbal::model
