#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace gimbal::model_config {

// The model families that are executed. Dense families are the same blocks without experts.
enum class Family : std::uint8_t { kMixtral, kQwen2Moe, kQwen3Moe, kOlmoe, kLlama, kQwen3 };

// Where RMS norms stand on the query and key projections, before the rotary embedding.
enum class QkNorm : std::uint8_t {
  kNone,
  kPerHead,         // one weight [head_dim], applied to each head on its own
  kWholeProjection  // weights [heads * head_dim] and [kv_heads * head_dim], over all heads at once
};

enum class RopeKind : std::uint8_t { kDefault, kLinear, kLlama3, kYarn };

// Rotary position embedding over the whole head (rotate-half layout). With d = head_dim and
// inv_freq[i] = theta^(-2i/d), `kind` says how inv_freq is changed; the formulas are those of
// Hugging Face transformers 5.x (modeling_rope_utils).
struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;             // kLinear, kLlama3, kYarn
  double low_freq_factor = 1.0;    // kLlama3
  double high_freq_factor = 4.0;   // kLlama3; > low_freq_factor
  int original_max_positions = 0;  // kLlama3, kYarn: the context of pre-training
  double beta_fast = 32.0;         // kYarn
  double beta_slow = 1.0;          // kYarn
  bool truncate = true;            // kYarn: round the correction range to whole dimensions
  double attention_factor = 1.0;   // multiplies cos and sin; resolved from mscale where not given

  bool operator==(const RopeConfig&) const = default;
};

struct LayerConfig {
  bool is_moe = false;
  // Query position q sees keys at positions k with q - sliding_window < k <= q; 0: all k <= q.
  int sliding_window = 0;

  bool operator==(const LayerConfig&) const = default;
};

// Everything that execution needs to know of a model, checked: sizes are within bounds that keep
// every product of them inside 63 bits, kv_heads divides heads, head_dim is even, and so on.
// Value type.
struct ModelConfig {
  Family family = Family::kLlama;
  std::string architecture;  // "MixtralForCausalLM"

  int hidden_size = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int max_positions = 0;   // max_position_embeddings as written
  int context_length = 0;  // positions the model can address: max_positions, stretched by rope
  float rms_eps = 1e-6F;
  RopeConfig rope;

  bool tie_embeddings = false;  // lm_head is the embedding table
  bool qkv_bias = false;
  bool o_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  std::optional<float> clip_qkv;  // clamp q, k and v (after the norms) to [-clip, clip]

  int dense_intermediate = 0;   // 0 when no layer is dense
  int experts = 0;              // 0 when no layer is MoE, as are all of the next four
  int experts_per_token = 0;    // <= experts
  int moe_intermediate = 0;     // of one routed expert
  int shared_intermediate = 0;  // of the shared expert with its sigmoid gate; 0: there is none
  bool norm_topk_prob = false;  // divide the top-k weights by their sum

  std::vector<LayerConfig> layers;

  std::vector<TokenId> eos_token_ids;
  std::optional<TokenId> bos_token_id;
  std::optional<TokenId> pad_token_id;

  // "float32", "bfloat16" or "float16" as the config says; empty where it does not.
  std::string dtype;

  // Fields of config.json that nothing here knows, in alphabetical order: worth a warning, because
  // one of them may change what the model computes. Known harmless fields are not among them.
  std::vector<std::string> unknown_fields;

  [[nodiscard]] int num_layers() const { return static_cast<int>(layers.size()); }
  // Requires: layer < num_layers().
  [[nodiscard]] bool is_moe(LayerIndex layer) const;
  [[nodiscard]] int moe_layers() const;
  [[nodiscard]] int q_size() const { return heads * head_dim; }
  [[nodiscard]] int kv_size() const { return kv_heads * head_dim; }
  // Keys and values of one token in all layers, in bytes.
  [[nodiscard]] std::int64_t kv_bytes_per_token(int bytes_per_element) const;
};

// Parameters by part. A tied lm_head counts 0.
struct ParameterCounts {
  std::int64_t embeddings = 0;
  std::int64_t attention = 0;  // q, k, v, o and their biases
  std::int64_t router = 0;
  std::int64_t experts = 0;         // routed, all of them
  std::int64_t shared_experts = 0;  // and their gates
  std::int64_t dense_ffn = 0;
  std::int64_t norms = 0;  // q and k norms among them
  std::int64_t lm_head = 0;

  [[nodiscard]] std::int64_t total() const;
  bool operator==(const ParameterCounts&) const = default;
};

[[nodiscard]] ParameterCounts parameter_counts(const ModelConfig& config);
// Of total(), what one token's forward pass uses: experts_per_token of the experts, and one row of
// the embeddings (the whole table where it is the lm_head too).
[[nodiscard]] std::int64_t active_parameters(const ModelConfig& config);

// One sentence that lists the unknown fields, many of them cut short; empty where there are none.
[[nodiscard]] std::string unknown_fields_note(const ModelConfig& config);

// The config.json of one family ("mixtral"): its model_type and architecture name.
[[nodiscard]] std::string_view model_type_of(Family family);
[[nodiscard]] std::string_view architecture_of(Family family);
[[nodiscard]] std::string_view to_string(RopeKind kind);  // as rope_type is written

// Reads a config.json as transformers 5.x does, with its defaults for fields that are absent, and
// accepts the forms that older versions wrote (rope_theta and rope_scaling, torch_dtype). A field
// that would change the output and is not supported is an error that names it and its value.
[[nodiscard]] Result<ModelConfig> parse_model_config(const nlohmann::json& config);
// The same from text.
[[nodiscard]] Result<ModelConfig> parse_model_config(std::string_view config_text);

// Takes the special token ids that a generation_config.json gives, as generation does.
[[nodiscard]] Result<void> apply_generation_config(const nlohmann::json& generation_config,
                                                   ModelConfig& config);

// Reads model_dir/config.json and, where there is one, model_dir/generation_config.json.
[[nodiscard]] Result<ModelConfig> load_model_config(const std::string& model_dir);

}  // namespace gimbal::model_config
