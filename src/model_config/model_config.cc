#include "model_config/model_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/json.h"
#include "model_config/family_traits.h"

namespace gimbal::model_config {

bool ModelConfig::is_moe(LayerIndex layer) const {
  GIMBAL_CHECK(layer.value() >= 0 && layer.value() < num_layers());
  return layers[static_cast<std::size_t>(layer.value())].is_moe;
}

int ModelConfig::moe_layers() const {
  return static_cast<int>(std::ranges::count_if(layers, &LayerConfig::is_moe));
}

std::int64_t ModelConfig::kv_bytes_per_token(int bytes_per_element) const {
  return std::int64_t{2} * num_layers() * kv_size() * bytes_per_element;
}

std::int64_t ParameterCounts::total() const {
  return embeddings + attention + router + experts + shared_experts + dense_ffn + norms + lm_head;
}

ParameterCounts parameter_counts(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t q = config.q_size();
  const std::int64_t kv = config.kv_size();
  const std::int64_t layers = config.num_layers();
  const std::int64_t moe = config.moe_layers();

  ParameterCounts counts;
  counts.embeddings = hidden * config.vocab_size;
  counts.lm_head = config.tie_embeddings ? 0 : counts.embeddings;
  std::int64_t attention = hidden * (q + 2 * kv) + q * hidden;
  if (config.qkv_bias) attention += q + 2 * kv;
  if (config.o_bias) attention += hidden;
  counts.attention = layers * attention;
  counts.router = moe * hidden * config.experts;
  counts.experts = moe * config.experts * 3 * hidden * config.moe_intermediate;
  if (config.shared_intermediate > 0) {
    counts.shared_experts = moe * (3 * hidden * config.shared_intermediate + hidden);
  }
  counts.dense_ffn = (layers - moe) * 3 * hidden * config.dense_intermediate;
  std::int64_t norms = 2 * hidden;
  if (config.qk_norm == QkNorm::kPerHead) norms += 2 * config.head_dim;
  if (config.qk_norm == QkNorm::kWholeProjection) norms += q + kv;
  counts.norms = layers * norms + hidden;
  return counts;
}

std::int64_t active_parameters(const ModelConfig& config) {
  const ParameterCounts counts = parameter_counts(config);
  std::int64_t active = counts.total();
  if (!config.tie_embeddings) active += config.hidden_size - counts.embeddings;
  if (config.experts > 0) {
    active += counts.experts / config.experts * config.experts_per_token - counts.experts;
  }
  return active;
}

std::string_view model_type_of(Family family) {
  return traits_of(family).model_type;
}

std::string_view architecture_of(Family family) {
  return traits_of(family).architecture;
}

std::string_view to_string(RopeKind kind) {
  switch (kind) {
    case RopeKind::kDefault:
      return "default";
    case RopeKind::kLinear:
      return "linear";
    case RopeKind::kLlama3:
      return "llama3";
    case RopeKind::kYarn:
      return "yarn";
  }
  GIMBAL_CHECK(false);
}

std::string unknown_fields_note(const ModelConfig& config) {
  constexpr std::size_t kMostListed = 20;
  const auto& fields = config.unknown_fields;
  if (fields.empty()) return {};
  std::string note = "fields that are not known here and have no effect: ";
  for (std::size_t i = 0; i < std::min(fields.size(), kMostListed); ++i)
    note += (i == 0 ? "" : ", ") + excerpt(Json(fields[i]));
  if (fields.size() > kMostListed) note += fmt::format(" and {} more", fields.size() - kMostListed);
  return note;
}

}  // namespace gimbal::model_config
