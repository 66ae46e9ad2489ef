#include "synthetic/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

namespace gimbal::synthetic {
namespace {

using model_config::model_type_of;

constexpr std::array kFamilies = {Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                                  Family::kOlmoe,   Family::kLlama,    Family::kQwen3};
constexpr std::array kRopeKinds = {RopeKind::kDefault, RopeKind::kLinear, RopeKind::kLlama3,
                                   RopeKind::kYarn};

constexpr FamilyTraits kMixtral = {.has_experts = true,
                                   .experts_use_intermediate = true,
                                   .has_sliding_window = true,
                                   .free_head_dim = true};
constexpr FamilyTraits kQwen2Moe = {.has_experts = true,
                                    .has_dense_layers = true,
                                    .has_shared_expert = true,
                                    .has_sliding_window = true};
constexpr FamilyTraits kQwen3Moe = {.has_experts = true,
                                    .has_dense_layers = true,
                                    .has_sliding_window = true,
                                    .head_norms = true,
                                    .free_head_dim = true};
constexpr FamilyTraits kOlmoe = {
    .has_experts = true, .experts_use_intermediate = true, .projection_norms = true};
constexpr FamilyTraits kLlama = {.free_head_dim = true};
constexpr FamilyTraits kQwen3 = {
    .has_sliding_window = true, .head_norms = true, .free_head_dim = true};

// Checks one option at a time and keeps the first error.
class RangeCheck {
 public:
  template <class T>
  RangeCheck& in(const char* option, T value, T low, T high) {
    if (!error_ && !(value >= low && value <= high)) {
      error_ = invalid_argument(
          fmt::format("--{} must be between {} and {}, got {}", option, low, high, value), option);
    }
    return *this;
  }
  RangeCheck& holds(bool condition, const char* option, std::string_view message) {
    if (!error_ && !condition) {
      error_ = invalid_argument(fmt::format("--{} {}", option, message), option);
    }
    return *this;
  }
  [[nodiscard]] bool ok() const { return !error_; }
  [[nodiscard]] Result<void> result() const {
    return error_ ? Result<void>(*error_) : Result<void>();
  }

 private:
  std::optional<Error> error_;
};

void check_shape(const SyntheticOptions& o, const FamilyTraits& traits, RangeCheck& check) {
  check.in("hidden", o.hidden_size, 8, 65536)
      .in("layers", o.layers, 1, 1024)
      .in("heads", o.heads, 1, 1024)
      .in("kv-heads", o.kv_heads, 1, 1024)
      .in("head-dim", o.head_dim, 2, 1024)
      .in("vocab", o.vocab_size, 260, 1 << 20)
      .in("max-positions", o.max_positions, 1, 1 << 28)
      .in("intermediate", o.intermediate_size, 1, 1 << 20)
      .in("rms-norm-eps", o.rms_norm_eps, 1e-12, 1.0)
      .in("sliding-window", o.sliding_window, 0, 1 << 28)
      .in("max-window-layers", o.max_window_layers, -1, 1024)
      .in("clip-qkv", o.clip_qkv, 0.0, 1e6);
  if (!check.ok()) return;  // what follows divides
  check
      .holds(o.heads % o.kv_heads == 0, "kv-heads",
             fmt::format("must divide --heads {}, got {}", o.heads, o.kv_heads))
      .holds(o.head_dim % 2 == 0, "head-dim", fmt::format("must be even, got {}", o.head_dim))
      .holds(traits.free_head_dim || o.head_dim * o.heads == o.hidden_size, "head-dim",
             fmt::format("must be --hidden / --heads for {}, got {}", model_type_of(o.family),
                         o.head_dim))
      .holds(o.family != Family::kLlama || o.hidden_size % o.heads == 0, "heads",
             fmt::format("must divide --hidden {} for llama, got {}", o.hidden_size, o.heads))
      .holds(
          traits.has_sliding_window || o.sliding_window == 0, "sliding-window",
          fmt::format("is not an option of {}, got {}", model_type_of(o.family), o.sliding_window))
      .holds(o.family == Family::kOlmoe || o.clip_qkv == 0, "clip-qkv",
             fmt::format("is not an option of {}, got {}", model_type_of(o.family), o.clip_qkv))
      .holds(o.family != Family::kMixtral || !o.attention_bias, "attention-bias",
             "is not an option of mixtral");
}

void check_experts(const SyntheticOptions& o, const FamilyTraits& traits, RangeCheck& check) {
  if (!traits.has_experts) {
    check.holds(
        o.routing_skew == 0 && o.topics <= 1, "routing-skew",
        fmt::format("and --topics need a family with experts, not {}", model_type_of(o.family)));
    return;
  }
  check.in("experts", o.experts, 1, 4096)
      .in("top-k", o.experts_per_token, 1, std::clamp(o.experts, 1, 256))
      .in("moe-intermediate", o.moe_intermediate_size, 1, 1 << 20)
      .in("shared-intermediate", o.shared_intermediate_size, 1, 1 << 20)
      .in("decoder-sparse-step", o.decoder_sparse_step, 1, 1024)
      .in("router-gain", o.router_gain, 0.0, 16.0)
      .in("routing-skew", o.routing_skew, 0.0, 4.0)
      .in("topics", o.topics, 0, std::min({o.hidden_size / 2, o.vocab_size / 2, 512}))
      .in("topic-strength", o.topic_strength, 0.0, 64.0)
      .holds(o.router_gain * std::max(o.routing_skew, o.topic_strength) <= 64.0, "topic-strength",
             fmt::format("times --router-gain {} must be at most 64, got {}", o.router_gain,
                         o.topic_strength));
  for (const int layer : o.mlp_only_layers) {
    check.in("mlp-only-layers", layer, 0, o.layers - 1);
  }
  check.holds(
      traits.has_dense_layers || (o.mlp_only_layers.empty() && o.decoder_sparse_step == 1),
      "mlp-only-layers",
      fmt::format("and --decoder-sparse-step are not options of {}", model_type_of(o.family)));
}

void check_rope(const RopeOptions& rope, const SyntheticOptions& o, RangeCheck& check) {
  check.in("rope-theta", rope.theta, 1.0 + 1e-6, 1e12)
      .in("rope-factor", rope.factor, 1.0, 1e4)
      .in("rope-original-max-positions", rope.original_max_positions, 0, o.max_positions)
      .in("rope-low-freq-factor", rope.low_freq_factor, 1e-3, 1e3)
      .in("rope-high-freq-factor", rope.high_freq_factor, 1e-3, 1e3)
      .in("rope-beta-fast", rope.beta_fast, 1e-3, 1e6)
      .in("rope-beta-slow", rope.beta_slow, 1e-3, 1e6)
      .in("rope-attention-factor", rope.attention_factor, 0.0, 1e3)
      .holds(rope.low_freq_factor < rope.high_freq_factor, "rope-low-freq-factor",
             fmt::format("must be below --rope-high-freq-factor {}, got {}", rope.high_freq_factor,
                         rope.low_freq_factor))
      .holds(
          rope.beta_slow < rope.beta_fast, "rope-beta-slow",
          fmt::format("must be below --rope-beta-fast {}, got {}", rope.beta_fast, rope.beta_slow));
}

// Bounds the work before any product could overflow: each factor is within its range already.
void check_size(const SyntheticOptions& o, const FamilyTraits& traits, RangeCheck& check) {
  if (!check.ok()) return;
  constexpr std::int64_t kMaxExperts = std::int64_t{1} << 18;
  constexpr std::int64_t kMaxBytes = std::int64_t{1} << 42;
  const std::int64_t hidden = o.hidden_size;
  const std::int64_t layers = o.layers;
  const std::int64_t experts = traits.has_experts ? o.experts : 0;
  check.in("experts", experts, std::int64_t{0}, kMaxExperts / layers);
  if (!check.ok()) return;
  const std::int64_t width =
      traits.experts_use_intermediate ? o.intermediate_size : o.moe_intermediate_size;
  std::int64_t layer = 2 * hidden * (o.heads + o.kv_heads) * o.head_dim;
  layer += experts * (3 * hidden * width + hidden);
  if (!traits.has_experts) layer += 3 * hidden * o.intermediate_size;
  if (traits.has_shared_expert) layer += 3 * hidden * o.shared_intermediate_size;
  const std::int64_t bytes = (layers * layer + 2 * hidden * o.vocab_size) *
                             static_cast<std::int64_t>(tensor::size_of(o.dtype));
  check.holds(
      bytes <= kMaxBytes, "layers",
      fmt::format("and the other sizes make {:.1f} TB of weights, at most {:.1f} are made",
                  static_cast<double>(bytes) * 1e-12, static_cast<double>(kMaxBytes) * 1e-12));
}

SyntheticOptions qwen3_moe_preset() {
  SyntheticOptions options;
  options.rope.theta = 1000000.0;
  options.experts_per_token = 4;
  return options;
}

SyntheticOptions demo_preset() {
  SyntheticOptions options = qwen3_moe_preset();
  options.layers = 5;
  options.max_positions = 8192;
  options.experts = 16;
  options.moe_intermediate_size = options.intermediate_size = 192;
  return options;
}

SyntheticOptions mid_preset() {
  SyntheticOptions options = qwen3_moe_preset();
  options.hidden_size = 512;
  options.layers = 8;
  options.heads = 8;
  options.vocab_size = 16384;
  options.max_positions = 8192;
  options.experts = 32;
  options.moe_intermediate_size = options.intermediate_size = 256;
  return options;
}

SyntheticOptions bench_preset() {
  SyntheticOptions options = qwen3_moe_preset();
  options.hidden_size = 1024;
  options.layers = 12;
  options.heads = 16;
  options.kv_heads = 4;
  options.vocab_size = 32000;
  options.experts = 32;
  options.moe_intermediate_size = options.intermediate_size = 768;
  return options;
}

}  // namespace

const FamilyTraits& traits_of(Family family) {
  switch (family) {
    case Family::kMixtral:
      return kMixtral;
    case Family::kQwen2Moe:
      return kQwen2Moe;
    case Family::kQwen3Moe:
      return kQwen3Moe;
    case Family::kOlmoe:
      return kOlmoe;
    case Family::kLlama:
      return kLlama;
    case Family::kQwen3:
      break;
  }
  return kQwen3;
}

Result<Family> parse_family(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Family family : kFamilies) {
    if (model_type_of(family) == name) return family;
    names.push_back(model_type_of(family));
  }
  return invalid_argument(
      fmt::format("--family must be one of {}, got {}", fmt::join(names, ", "), name), "family");
}

Result<RopeKind> parse_rope_kind(std::string_view name) {
  for (const RopeKind kind : kRopeKinds) {
    if (model_config::to_string(kind) == name) return kind;
  }
  return invalid_argument(
      fmt::format("--rope must be default, linear, llama3 or yarn, got {}", name), "rope");
}

Result<SyntheticOptions> preset(std::string_view name) {
  if (name == "demo") return demo_preset();
  if (name == "mid") return mid_preset();
  if (name == "bench") return bench_preset();
  return invalid_argument(fmt::format("--preset must be demo, mid or bench, got {}", name),
                          "preset");
}

SyntheticOptions family_defaults(Family family) {
  SyntheticOptions options;
  options.family = family;
  if (family == Family::kOlmoe) {
    options.kv_heads = options.heads;
    options.rms_norm_eps = 1e-5;
  }
  if (family == Family::kMixtral || family == Family::kLlama) options.rms_norm_eps = 1e-5;
  options.norm_topk = family == Family::kMixtral || family == Family::kQwen3Moe;
  options.attention_bias = family == Family::kQwen2Moe;
  options.rope.theta = family == Family::kOlmoe || family == Family::kLlama ? 1e4 : 1e6;
  if (traits_of(family).experts_use_intermediate) options.intermediate_size = 128;
  return options;
}

Result<void> validate(const SyntheticOptions& options) {
  const FamilyTraits& traits = traits_of(options.family);
  RangeCheck check;
  check_shape(options, traits, check);
  check_experts(options, traits, check);
  check_rope(options.rope, options, check);
  check_size(options, traits, check);
  check.in("shard-bytes", options.shard_bytes, std::uint64_t{1} << 16, std::uint64_t{1} << 40);
  return check.result();
}

bool has_experts(const SyntheticOptions& options, int layer) {
  const FamilyTraits& traits = traits_of(options.family);
  if (!traits.has_experts) return false;
  if (!traits.has_dense_layers) return true;
  const auto& dense = options.mlp_only_layers;
  return std::find(dense.begin(), dense.end(), layer) == dense.end() && options.experts > 0 &&
         (layer + 1) % options.decoder_sparse_step == 0;
}

}  // namespace gimbal::synthetic
