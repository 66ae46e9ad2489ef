#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model_config/model_config.h"
#include "tensor/dtype.h"

namespace gimbal::synthetic {

using model_config::Family;
using model_config::RopeKind;

// How positions enter attention; the fields that a kind does not use are ignored.
struct RopeOptions {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 4.0;             // linear, llama3, yarn
  int original_max_positions = 0;  // llama3, yarn; 0: max_positions / factor
  double low_freq_factor = 1.0;    // llama3
  double high_freq_factor = 4.0;   // llama3
  double beta_fast = 32.0;         // yarn
  double beta_slow = 1.0;          // yarn
  double attention_factor = 0.0;   // yarn; 0: left to the model (from the factor)
};

// What to make. A field that the family does not have keeps its default, or is an error.
struct SyntheticOptions {
  Family family = Family::kQwen3Moe;
  std::uint64_t seed = 0;
  tensor::DType dtype = tensor::DType::kBF16;

  int hidden_size = 256;
  int layers = 4;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 64;
  int vocab_size = 4096;
  int max_positions = 4096;
  int intermediate_size = 512;  // dense FFN; the experts' own size for mixtral and olmoe
  bool tie_embeddings = false;
  bool attention_bias = false;  // qwen2_moe: its QKV biases
  double rms_norm_eps = 1e-6;
  RopeOptions rope = {};
  int sliding_window = 0;  // tokens; 0: none. mixtral, qwen2_moe, qwen3_moe, qwen3
  int max_window_layers =
      -1;                 // the config's field of qwen2_moe and qwen3; -1: most layers have one
  double clip_qkv = 0.0;  // olmoe; 0: none

  int experts = 8;
  int experts_per_token = 2;
  int moe_intermediate_size = 128;     // qwen2_moe, qwen3_moe
  int shared_intermediate_size = 256;  // qwen2_moe
  bool norm_topk = true;               // mixtral always does
  int decoder_sparse_step = 1;         // qwen2_moe, qwen3_moe: every n-th layer has experts
  std::vector<int> mlp_only_layers = {};

  // Standard deviation of the router's logits that comes from noise.
  double router_gain = 1.5;
  // Popularity of experts: roughly Zipf with this exponent. 0: even.
  double routing_skew = 0.0;
  // Vocabulary ranges that prefer experts of their own. 0 or 1: no preference.
  int topics = 0;
  // How strongly a topic prefers its experts, as a Zipf exponent.
  double topic_strength = 2.0;

  // A shard ends before the tensor that would take it over this size.
  std::uint64_t shard_bytes = std::uint64_t{2} << 30;
};

// What a family's checkpoints look like.
struct FamilyTraits {
  bool has_experts = false;
  bool has_dense_layers = false;  // decoder_sparse_step and mlp_only_layers mean something
  bool has_shared_expert = false;
  bool experts_use_intermediate = false;  // experts are sized by intermediate_size
  bool has_sliding_window = false;
  bool head_norms = false;        // q_norm/k_norm over each head
  bool projection_norms = false;  // q_norm/k_norm over the whole projection
  bool free_head_dim = false;     // head_dim is a field of the config
};

[[nodiscard]] const FamilyTraits& traits_of(Family family);

// The family of this model_type ("qwen3_moe"), the rope of this name. Errors name the value.
[[nodiscard]] Result<Family> parse_family(std::string_view name);
[[nodiscard]] Result<RopeKind> parse_rope_kind(std::string_view name);

// The options of "demo", "mid" or "bench".
[[nodiscard]] Result<SyntheticOptions> preset(std::string_view name);
// Options of a small model with the settings that are usual for `family`: a start for --family.
[[nodiscard]] SyntheticOptions family_defaults(Family family);

// Every field in range and the fields consistent. The error's `field` is the option as the command
// line spells it ("kv-heads"); the message has its value and what is accepted.
[[nodiscard]] Result<void> validate(const SyntheticOptions& options);

// Whether this layer's feed-forward part is made of experts.
[[nodiscard]] bool has_experts(const SyntheticOptions& options, int layer);

}  // namespace gimbal::synthetic
