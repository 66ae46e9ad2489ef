#include "model/architectures/architectures.h"

#include "base/check.h"

namespace gimbal::model {

Blueprint blueprint_of(const model_config::ModelConfig& config) {
  using model_config::Family;
  switch (config.family) {
    case Family::kLlama:
      return llama_blueprint(config);
    case Family::kQwen3:
      return qwen3_blueprint(config);
    case Family::kMixtral:
      return mixtral_blueprint(config);
    case Family::kQwen2Moe:
      return qwen2_moe_blueprint(config);
    case Family::kQwen3Moe:
      return qwen3_moe_blueprint(config);
    case Family::kOlmoe:
      return olmoe_blueprint(config);
  }
  GIMBAL_CHECK(false, "a family without a blueprint");
}

}  // namespace gimbal::model
