#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model_config/model_config.h"

namespace gimbal::model {

// A linear projection of a checkpoint: weight [out, in], and a bias [out] where it has one.
struct ProjectionBlueprint {
  std::string weight;
  std::optional<std::string> bias;
  std::int64_t out = 0;
  std::int64_t in = 0;
};

// A gated feed-forward network: down(silu(gate(x)) * up(x)); gate, up [inner, hidden],
// down [hidden, inner].
struct FfnBlueprint {
  std::string gate;
  std::string up;
  std::string down;
  std::int64_t inner = 0;
};

// What one decoder layer is made of, as names of the checkpoint's tensors. A MoE layer has a router
// and experts and perhaps a shared expert; a dense one has `dense`.
struct LayerBlueprint {
  std::string input_norm;  // [hidden]
  ProjectionBlueprint q, k, v, o;
  std::optional<std::string> q_norm;  // [head_dim] or [heads * head_dim]
  std::optional<std::string> k_norm;
  std::string post_attention_norm;  // [hidden]
  std::optional<FfnBlueprint> dense;
  std::optional<ProjectionBlueprint> router;  // [experts, hidden]
  std::vector<FfnBlueprint> experts;
  std::optional<FfnBlueprint> shared_expert;
  std::optional<ProjectionBlueprint> shared_expert_gate;  // [1, hidden]
};

// A whole model: where each tensor of its checkpoint belongs. Value type.
struct Blueprint {
  std::string embedding;  // [vocab, hidden]
  std::vector<LayerBlueprint> layers;
  std::string final_norm;              // [hidden]
  std::optional<std::string> lm_head;  // [vocab, hidden]; absent: the embedding table
};

// Parts that families share. Prefixes end without a dot.

// self_attn.{q,k,v,o}_proj and the norms, as every supported family names them.
[[nodiscard]] LayerBlueprint attention_layer(const model_config::ModelConfig& config,
                                             const std::string& layer_prefix);
// {gate,up,down}_proj.weight under `prefix`.
[[nodiscard]] FfnBlueprint gated_ffn(const std::string& prefix, std::int64_t inner);
// A router at `gate` and experts {gate,up,down}_proj under experts.N, all under `prefix`.
void add_experts(const model_config::ModelConfig& config, const std::string& prefix,
                 LayerBlueprint& layer);
// A model without layers: embedding, final norm, lm_head.
[[nodiscard]] Blueprint model_frame(const model_config::ModelConfig& config);
[[nodiscard]] std::string layer_prefix(std::int64_t layer);

}  // namespace gimbal::model
