#include "apps/engine_cost.h"

namespace gimbal::apps {
namespace {

double output_matrix_size(const model_config::ModelConfig& config) {
  return static_cast<double>(config.vocab_size) * config.hidden_size;
}

double expert_size(const model_config::ModelConfig& config) {
  return 3.0 * config.hidden_size * config.moe_intermediate;
}

double bias_size(const model_config::ModelConfig& config) {
  double a_layer = 0;
  if (config.qkv_bias) a_layer += config.q_size() + 2 * config.kv_size();
  if (config.o_bias) a_layer += config.hidden_size;
  return a_layer * config.num_layers();
}

}  // namespace

double step_weight_bytes(const model_config::ModelConfig& config, int element_bytes,
                         double distinct_experts) {
  const model_config::ParameterCounts parts = parameter_counts(config);
  const double biases = bias_size(config);
  const auto shared =
      static_cast<double>(parts.attention + parts.router + parts.shared_experts + parts.dense_ffn);
  const double matrices =
      shared - biases + output_matrix_size(config) + distinct_experts * expert_size(config);
  return matrices * element_bytes + (biases + static_cast<double>(parts.norms)) * sizeof(float);
}

double matrix_flops(const model_config::ModelConfig& config, std::int64_t rows,
                    std::int64_t output_rows) {
  const model_config::ParameterCounts parts = parameter_counts(config);
  const double chosen =
      static_cast<double>(config.moe_layers()) * config.experts_per_token * expert_size(config);
  const double a_row =
      static_cast<double>(parts.attention + parts.router + parts.shared_experts + parts.dense_ffn) -
      bias_size(config) + chosen;
  return 2.0 * (a_row * static_cast<double>(rows) +
                output_matrix_size(config) * static_cast<double>(output_rows));
}

}  // namespace gimbal::apps
