#include "cost/model_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cost/shipped_files.h"
#include "model_config/size_limits.h"

namespace gimbal::cost {
namespace {

using model_config::kMaxExperts;
using model_config::kMaxHeadDim;
using model_config::kMaxHeads;
using model_config::kMaxHidden;
using model_config::kMaxIntermediate;
using model_config::kMaxLayers;
using model_config::kMaxPositions;
using model_config::kMaxVocab;

constexpr double kGated = 3;  // matrices of a feed-forward: gate, up, down

Result<int> required(JsonObject& config, std::string_view name, int low, int high) {
  GIMBAL_ASSIGN_OR_RETURN(const auto value, config.integer(name, low, high));
  if (!value) return config.wrong(name, fmt::format("an integer from {} to {}", low, high));
  return static_cast<int>(*value);
}

// Multi-head latent attention: queries through a low-rank bottleneck, keys and values kept as one
// compressed row and one rotary part a token. Decodes work on the compressed rows.
Result<void> read_latent_attention(JsonObject& config, ModelShape& shape) {
  GIMBAL_ASSIGN_OR_RETURN(const int query_rank, required(config, "q_lora_rank", 1, kMaxHidden));
  GIMBAL_ASSIGN_OR_RETURN(const int kv_rank, required(config, "kv_lora_rank", 1, kMaxHidden));
  GIMBAL_ASSIGN_OR_RETURN(const int plain, required(config, "qk_nope_head_dim", 1, kMaxHeadDim));
  GIMBAL_ASSIGN_OR_RETURN(const int rotary, required(config, "qk_rope_head_dim", 1, kMaxHeadDim));
  GIMBAL_ASSIGN_OR_RETURN(const int value, required(config, "v_head_dim", 1, kMaxHeadDim));
  const double hidden = shape.hidden;
  const double heads = shape.heads;
  shape.kv_heads = 1;
  shape.attention_parameters = hidden * query_rank + query_rank * heads * (plain + rotary) +
                               hidden * (kv_rank + rotary) + kv_rank * heads * (plain + value) +
                               heads * value * hidden;
  shape.prefill_flops_per_pair = 2 * heads * (plain + rotary + value);
  shape.decode_flops_per_pair = 2 * heads * (kv_rank + rotary + kv_rank);
  shape.kv_values_per_token = kv_rank + rotary;
  return {};
}

Result<void> read_deepseek_experts(JsonObject& config, int layers, ModelShape& shape) {
  GIMBAL_ASSIGN_OR_RETURN(const int dense_layers,
                          required(config, "first_k_dense_replace", 0, layers));
  int stride = 1;
  GIMBAL_RETURN_IF_ERROR(config.read("moe_layer_freq", 1, kMaxLayers, stride));
  GIMBAL_ASSIGN_OR_RETURN(const int dense,
                          required(config, "intermediate_size", 1, kMaxIntermediate));
  GIMBAL_ASSIGN_OR_RETURN(const int moe,
                          required(config, "moe_intermediate_size", 1, kMaxIntermediate));
  GIMBAL_ASSIGN_OR_RETURN(shape.experts, required(config, "n_routed_experts", 1, kMaxExperts));
  GIMBAL_ASSIGN_OR_RETURN(shape.experts_per_token,
                          required(config, "num_experts_per_tok", 1, shape.experts));
  int shared = 0;
  GIMBAL_RETURN_IF_ERROR(config.read("n_shared_experts", 0, kMaxExperts, shared));
  for (int layer = 0; layer < layers; ++layer)
    shape.layer_is_moe.push_back(layer >= dense_layers && layer % stride == 0);
  const double hidden = shape.hidden;
  shape.router_parameters = hidden * shape.experts;
  shape.expert_parameters = kGated * hidden * moe;
  shape.shared_parameters = shared * shape.expert_parameters;
  shape.dense_parameters = kGated * hidden * dense;
  return {};
}

Result<ModelShape> deepseek_shape(const Json& value, std::string name) {
  JsonObject config(value);
  ModelShape shape;
  shape.name = std::move(name);
  GIMBAL_ASSIGN_OR_RETURN(const int layers, required(config, "num_hidden_layers", 1, kMaxLayers));
  GIMBAL_ASSIGN_OR_RETURN(shape.hidden, required(config, "hidden_size", 1, kMaxHidden));
  GIMBAL_ASSIGN_OR_RETURN(shape.vocab, required(config, "vocab_size", 1, kMaxVocab));
  GIMBAL_ASSIGN_OR_RETURN(shape.context_length,
                          required(config, "max_position_embeddings", 1, kMaxPositions));
  GIMBAL_ASSIGN_OR_RETURN(shape.heads, required(config, "num_attention_heads", 1, kMaxHeads));
  GIMBAL_RETURN_IF_ERROR(read_latent_attention(config, shape));
  GIMBAL_RETURN_IF_ERROR(read_deepseek_experts(config, layers, shape));
  shape.head_parameters = static_cast<double>(shape.hidden) * shape.vocab;
  GIMBAL_RETURN_IF_ERROR(config.read("tie_word_embeddings", shape.tied_embeddings));
  const Json* quantization = config.raw("quantization_config");
  if (quantization != nullptr) {
    GIMBAL_ASSIGN_OR_RETURN(JsonObject object,
                            JsonObject::of(*quantization, "quantization_config"));
    std::string method;
    GIMBAL_RETURN_IF_ERROR(object.read("quant_method", method));
    if (method != "fp8") return object.wrong("quant_method", "fp8");
    shape.bytes_per_parameter = 1;
  }
  return shape;
}

Error unknown_model(const std::string& name) {
  return {ErrorCode::kNotFound,
          fmt::format("model must be a file, a folder with a config.json, or one of {}; is {}",
                      fmt::join(shipped_models(), ", "), name),
          "model"};
}

}  // namespace

int ModelShape::moe_layers() const {
  return static_cast<int>(std::ranges::count(layer_is_moe, true));
}

std::vector<int> ModelShape::experts_of_layer() const {
  std::vector<int> result;
  for (const bool moe : layer_is_moe)
    result.push_back(moe ? experts : 0);
  return result;
}

double ModelShape::kv_bytes_per_token() const {
  return layers() * kv_values_per_token * bytes_per_kv_value;
}

double ModelShape::weight_bytes() const {
  return replicated_weight_bytes() + moe_layers() * experts * expert_bytes();
}

double ModelShape::replicated_weight_bytes() const {
  const double moe = moe_layers();
  const double parameters =
      layers() * attention_parameters + moe * (router_parameters + shared_parameters) +
      (layers() - moe) * dense_parameters + (tied_embeddings ? 1 : 2) * head_parameters;
  return parameters * bytes_per_parameter;
}

ModelShape shape_of(const model_config::ModelConfig& config, std::string name) {
  ModelShape shape;
  shape.name = std::move(name);
  for (const auto& layer : config.layers)
    shape.layer_is_moe.push_back(layer.is_moe);
  shape.hidden = config.hidden_size;
  shape.vocab = config.vocab_size;
  shape.context_length = config.context_length;
  shape.heads = config.heads;
  shape.kv_heads = config.kv_heads;
  const model_config::ParameterCounts counts = model_config::parameter_counts(config);
  const int moe = shape.moe_layers();
  const int dense = shape.layers() - moe;
  shape.attention_parameters = static_cast<double>(counts.attention) / shape.layers();
  if (moe > 0) {
    shape.experts = config.experts;
    shape.experts_per_token = config.experts_per_token;
    shape.router_parameters = static_cast<double>(counts.router) / moe;
    shape.expert_parameters = static_cast<double>(counts.experts) / moe / config.experts;
    shape.shared_parameters = static_cast<double>(counts.shared_experts) / moe;
  }
  if (dense > 0) shape.dense_parameters = static_cast<double>(counts.dense_ffn) / dense;
  shape.head_parameters = static_cast<double>(shape.hidden) * shape.vocab;
  shape.tied_embeddings = config.tie_embeddings;
  shape.prefill_flops_per_pair = 4.0 * config.q_size();
  shape.decode_flops_per_pair = shape.prefill_flops_per_pair;
  shape.kv_values_per_token = 2.0 * config.kv_size();
  if (config.dtype == "float32") {
    shape.bytes_per_parameter = shape.bytes_per_kv_value = shape.bytes_per_activation = 4;
  }
  return shape;
}

Result<ModelShape> shape_from_json(const Json& config, std::string name) {
  if (config.is_object() && config.value("model_type", Json()) == "deepseek_v3")
    return deepseek_shape(config, std::move(name));
  GIMBAL_ASSIGN_OR_RETURN(const auto parsed, model_config::parse_model_config(config));
  return shape_of(parsed, std::move(name));
}

Result<ModelShape> find_model(const std::string& name_or_path) {
  if (const auto text = find_shipped(shipped_model_files(), name_or_path)) {
    GIMBAL_ASSIGN_OR_RETURN(const Json config, parse_json(*text));
    return shape_from_json(config, name_or_path);
  }
  std::filesystem::path path(name_or_path);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) path /= "config.json";
  if (!std::filesystem::exists(path, error)) return unknown_model(name_or_path);
  GIMBAL_ASSIGN_OR_RETURN(const Json config, read_json_file(path.string()));
  auto shape = shape_from_json(config, name_or_path);
  if (!shape.ok()) return shape.error().within(path.string());
  return shape;
}

std::vector<std::string_view> shipped_models() {
  return names_of(shipped_model_files());
}

}  // namespace gimbal::cost
