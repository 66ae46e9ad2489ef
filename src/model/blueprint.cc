#include "model/blueprint.h"

namespace gimbal::model {
namespace {

using model_config::ModelConfig;
using model_config::QkNorm;

ProjectionBlueprint projection(const std::string& prefix, std::int64_t out, std::int64_t in,
                               bool bias) {
  ProjectionBlueprint result{.weight = prefix + ".weight", .bias = {}, .out = out, .in = in};
  if (bias) result.bias = prefix + ".bias";
  return result;
}

}  // namespace

std::string layer_prefix(std::int64_t layer) {
  return "model.layers." + std::to_string(layer);
}

LayerBlueprint attention_layer(const ModelConfig& config, const std::string& layer_prefix) {
  const std::string attention = layer_prefix + ".self_attn";
  const std::int64_t hidden = config.hidden_size;
  LayerBlueprint layer;
  layer.input_norm = layer_prefix + ".input_layernorm.weight";
  layer.q = projection(attention + ".q_proj", config.q_size(), hidden, config.qkv_bias);
  layer.k = projection(attention + ".k_proj", config.kv_size(), hidden, config.qkv_bias);
  layer.v = projection(attention + ".v_proj", config.kv_size(), hidden, config.qkv_bias);
  layer.o = projection(attention + ".o_proj", hidden, config.q_size(), config.o_bias);
  if (config.qk_norm != QkNorm::kNone) {
    layer.q_norm = attention + ".q_norm.weight";
    layer.k_norm = attention + ".k_norm.weight";
  }
  layer.post_attention_norm = layer_prefix + ".post_attention_layernorm.weight";
  return layer;
}

FfnBlueprint gated_ffn(const std::string& prefix, std::int64_t inner) {
  return {.gate = prefix + ".gate_proj.weight",
          .up = prefix + ".up_proj.weight",
          .down = prefix + ".down_proj.weight",
          .inner = inner};
}

void add_experts(const ModelConfig& config, const std::string& prefix, LayerBlueprint& layer) {
  layer.router = projection(prefix + ".gate", config.experts, config.hidden_size, false);
  for (int expert = 0; expert < config.experts; ++expert) {
    layer.experts.push_back(
        gated_ffn(prefix + ".experts." + std::to_string(expert), config.moe_intermediate));
  }
}

Blueprint model_frame(const ModelConfig& config) {
  Blueprint frame;
  frame.embedding = "model.embed_tokens.weight";
  frame.final_norm = "model.norm.weight";
  if (!config.tie_embeddings) frame.lm_head = "lm_head.weight";
  return frame;
}

}  // namespace gimbal::model
