#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "model_config/family_traits.h"
#include "model_config/layer_plan.h"
#include "model_config/model_config.h"
#include "model_config/rope_config.h"
#include "model_config/size_limits.h"
#include "model_config/unsupported_fields.h"

namespace gimbal::model_config {
namespace {

constexpr std::size_t kMaxSpecialTokens = 1024;
constexpr std::size_t kMaxConfigBytes = 16U << 20;

Result<const FamilyTraits*> family_of(JsonObject& config) {
  std::string model_type;
  GIMBAL_RETURN_IF_ERROR(config.read("model_type", model_type));
  if (!config.has("model_type")) return config.wrong("model_type", "given");
  const auto families = all_families();
  const auto found = std::ranges::find(families, model_type, &FamilyTraits::model_type);
  if (found != families.end()) return &*found;
  std::string known;
  for (const auto& family : families) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family.model_type);
  }
  return unsupported(
      fmt::format("model_type must be one of {}, is {}", known, excerpt(Json(model_type))),
      "model_type");
}

Result<void> read_architecture(JsonObject& config, const FamilyTraits& traits, ModelConfig& out) {
  out.architecture = traits.architecture;
  const Json* names = config.raw("architectures");
  if (names == nullptr || names->empty()) return {};
  if (names->is_array() && names->size() == 1 && (*names)[0].is_string() &&
      (*names)[0].get_ref<const std::string&>() == traits.architecture) {
    return {};
  }
  return unsupported(fmt::format("architectures must be [\"{}\"] for model_type {}, is {}",
                                 traits.architecture, traits.model_type, excerpt(*names)),
                     "architectures");
}

Result<void> read_sizes(JsonObject& config, const FamilyTraits& traits, int& layers,
                        ModelConfig& out) {
  out.hidden_size = traits.hidden_size;
  out.vocab_size = traits.vocab_size;
  out.max_positions = traits.max_positions;
  double eps = traits.rms_eps;
  layers = traits.layers;
  GIMBAL_RETURN_IF_ERROR(config.read("hidden_size", 1, kMaxHidden, out.hidden_size));
  GIMBAL_RETURN_IF_ERROR(config.read("num_hidden_layers", 1, kMaxLayers, layers));
  GIMBAL_RETURN_IF_ERROR(config.read("vocab_size", 1, kMaxVocab, out.vocab_size));
  GIMBAL_RETURN_IF_ERROR(
      config.read("max_position_embeddings", 1, kMaxPositions, out.max_positions));
  GIMBAL_RETURN_IF_ERROR(config.read("rms_norm_eps", 0.0, 1.0, eps));
  GIMBAL_RETURN_IF_ERROR(config.read("tie_word_embeddings", out.tie_embeddings));
  out.rms_eps = static_cast<float>(eps);
  GIMBAL_ASSIGN_OR_RETURN(
      out.rope, read_rope_config(config, traits.theta, out.max_positions, out.unknown_fields));
  out.context_length = context_length_of(out.rope, out.max_positions, kMaxPositions);
  return {};
}

Result<void> read_heads(JsonObject& config, const Json& object, const FamilyTraits& traits,
                        ModelConfig& out) {
  out.heads = traits.heads;
  GIMBAL_RETURN_IF_ERROR(config.read("num_attention_heads", 1, kMaxHeads, out.heads));
  // An explicit null asks for the derived value, silence for the family's default.
  out.kv_heads = object.contains("num_key_value_heads") ? 0 : traits.kv_heads;
  GIMBAL_RETURN_IF_ERROR(config.read("num_key_value_heads", 1, kMaxHeads, out.kv_heads));
  if (out.kv_heads == 0) out.kv_heads = out.heads;
  if (out.heads % out.kv_heads != 0) {
    return config.wrong("num_key_value_heads",
                        fmt::format("a divisor of num_attention_heads, {}", out.heads));
  }
  out.head_dim = object.contains("head_dim") ? 0 : traits.head_dim;
  GIMBAL_RETURN_IF_ERROR(config.read("head_dim", 2, kMaxHeadDim, out.head_dim));
  if (out.head_dim == 0) {
    if (out.hidden_size % out.heads != 0) {
      return config.wrong("hidden_size", fmt::format("a multiple of num_attention_heads, {}, "
                                                     "where head_dim is not given",
                                                     out.heads));
    }
    out.head_dim = out.hidden_size / out.heads;
  }
  if (out.head_dim % 2 != 0 || out.head_dim > kMaxHeadDim) {
    return config.wrong("head_dim",
                        fmt::format("even and at most {} (here {} from hidden_size {} "
                                    "and num_attention_heads {})",
                                    kMaxHeadDim, out.head_dim, out.hidden_size, out.heads));
  }
  if (traits.qk_norm == QkNorm::kWholeProjection && out.q_size() != out.hidden_size) {
    return config.wrong("head_dim", fmt::format("hidden_size / num_attention_heads for model_type "
                                                "{}, {} / {}",
                                                traits.model_type, out.hidden_size, out.heads));
  }
  return {};
}

Result<void> read_attention(JsonObject& config, const FamilyTraits& traits, ModelConfig& out) {
  out.qk_norm = traits.qk_norm;
  if (traits.attention_bias) {
    GIMBAL_RETURN_IF_ERROR(config.read("attention_bias", out.qkv_bias));
    out.o_bias = out.qkv_bias;
  }
  if (traits.qkv_bias) {
    out.qkv_bias = true;
    GIMBAL_RETURN_IF_ERROR(config.read("qkv_bias", out.qkv_bias));
  }
  if (traits.family == Family::kOlmoe && config.has("clip_qkv")) {
    float clip = 0;
    GIMBAL_RETURN_IF_ERROR(config.read("clip_qkv", 1e-6, 1e6, clip));
    out.clip_qkv = clip;
  }
  return {};
}

// How many experts: transformers writes the number under either of two names.
Result<void> read_expert_count(JsonObject& config, const FamilyTraits& traits, int& experts) {
  experts = traits.experts;
  int local = 0;
  const int least = traits.has_dense_layers ? 0 : 1;
  GIMBAL_RETURN_IF_ERROR(config.read("num_experts", least, kMaxExperts, experts));
  if (!config.has("num_local_experts")) return {};
  GIMBAL_RETURN_IF_ERROR(config.read("num_local_experts", least, kMaxExperts, local));
  if (config.has("num_experts") && local != experts) {
    return config.wrong("num_local_experts", fmt::format("equal to num_experts, {}", experts));
  }
  experts = local;
  return {};
}

Result<void> read_ffn(JsonObject& config, const FamilyTraits& traits, ModelConfig& out) {
  int intermediate = traits.intermediate_size;
  GIMBAL_RETURN_IF_ERROR(config.read("intermediate_size", 1, kMaxIntermediate, intermediate));
  if (out.moe_layers() < out.num_layers()) out.dense_intermediate = intermediate;
  if (!traits.has_experts) return {};

  int per_token = traits.experts_per_token;
  int moe_intermediate = intermediate;
  int shared_intermediate = traits.shared_intermediate;
  bool norm_topk = traits.always_norm_topk;
  GIMBAL_RETURN_IF_ERROR(config.read("num_experts_per_tok", 1, kMaxExperts, per_token));
  if (traits.moe_intermediate > 0) {
    moe_intermediate = traits.moe_intermediate;
    GIMBAL_RETURN_IF_ERROR(
        config.read("moe_intermediate_size", 1, kMaxIntermediate, moe_intermediate));
  }
  if (traits.shared_intermediate > 0) {
    GIMBAL_RETURN_IF_ERROR(
        config.read("shared_expert_intermediate_size", 0, kMaxIntermediate, shared_intermediate));
  }
  if (!traits.always_norm_topk) {
    GIMBAL_RETURN_IF_ERROR(config.read("norm_topk_prob", norm_topk));
  }
  if (out.moe_layers() == 0) {
    out.experts = 0;
    return {};
  }
  if (per_token > out.experts) {
    return config.wrong("num_experts_per_tok",
                        fmt::format("at most the number of experts, {}", out.experts));
  }
  out.experts_per_token = per_token;
  out.moe_intermediate = moe_intermediate;
  out.shared_intermediate = shared_intermediate;
  out.norm_topk_prob = norm_topk;
  return {};
}

// One id or a list of them. Absent: nullopt. Negative ids stand for none.
Result<std::optional<std::vector<TokenId>>> read_tokens(JsonObject& config, std::string_view name) {
  const Json* value = config.raw(name);
  if (value == nullptr) return std::optional<std::vector<TokenId>>{};
  const std::string_view expected = "a token id or a short list of them";
  std::vector<Json> items{*value};
  if (value->is_array()) {
    if (value->size() > kMaxSpecialTokens) return config.wrong(name, expected);
    items = value->get<std::vector<Json>>();
  }
  std::vector<TokenId> ids;
  for (const Json& item : items) {
    if (!item.is_number_integer()) return config.wrong(name, expected);
    if (item.is_number_unsigned() && item.get<std::uint64_t>() > INT32_MAX) {
      return config.wrong(name, expected);
    }
    const auto id = item.get<std::int64_t>();
    if (id < INT32_MIN) return config.wrong(name, expected);
    const bool seen = std::ranges::find(ids, static_cast<TokenId>(id)) != ids.end();
    if (id >= 0 && !seen) ids.push_back(static_cast<TokenId>(id));
  }
  return std::optional(std::move(ids));
}

Result<void> read_token(JsonObject& config, std::string_view name, std::optional<TokenId>& out) {
  GIMBAL_ASSIGN_OR_RETURN(const auto ids, read_tokens(config, name));
  if (!ids) return {};
  if (ids->size() > 1) return config.wrong(name, "one token id");
  out = ids->empty() ? std::nullopt : std::optional(ids->front());
  return {};
}

Result<void> read_special_tokens(JsonObject& config, ModelConfig& out) {
  GIMBAL_ASSIGN_OR_RETURN(auto eos, read_tokens(config, "eos_token_id"));
  if (eos) out.eos_token_ids = std::move(*eos);
  GIMBAL_RETURN_IF_ERROR(read_token(config, "bos_token_id", out.bos_token_id));
  return read_token(config, "pad_token_id", out.pad_token_id);
}

void set_default_tokens(const Json& object, const FamilyTraits& traits, ModelConfig& out) {
  if (traits.eos >= 0 && !object.contains("eos_token_id")) out.eos_token_ids = {traits.eos};
  if (traits.bos >= 0 && !object.contains("bos_token_id")) out.bos_token_id = traits.bos;
  if (traits.pad >= 0 && !object.contains("pad_token_id")) out.pad_token_id = traits.pad;
}

Result<void> read_dtype(JsonObject& config, ModelConfig& out) {
  for (const auto* name : {"torch_dtype", "dtype"}) {  // the later one wins
    GIMBAL_ASSIGN_OR_RETURN(auto value, config.string(name));
    if (!value) continue;
    if (value->starts_with("torch.")) value->erase(0, 6);
    if (*value != "float32" && *value != "bfloat16" && *value != "float16") {
      return unsupported(fmt::format("{} must be float32, bfloat16 or float16, is {}", name,
                                     excerpt(Json(*value))),
                         name);
    }
    out.dtype = std::move(*value);
  }
  return {};
}

}  // namespace

Result<ModelConfig> parse_model_config(const nlohmann::json& object) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject config, JsonObject::of(object));
  GIMBAL_ASSIGN_OR_RETURN(const FamilyTraits* traits, family_of(config));
  ModelConfig out;
  out.family = traits->family;
  GIMBAL_RETURN_IF_ERROR(read_architecture(config, *traits, out));
  GIMBAL_RETURN_IF_ERROR(refuse_unsupported_fields(config, *traits));
  int layers = 0;
  GIMBAL_RETURN_IF_ERROR(read_sizes(config, *traits, layers, out));
  GIMBAL_RETURN_IF_ERROR(read_heads(config, object, *traits, out));
  GIMBAL_RETURN_IF_ERROR(read_attention(config, *traits, out));
  if (traits->has_experts) GIMBAL_RETURN_IF_ERROR(read_expert_count(config, *traits, out.experts));
  GIMBAL_ASSIGN_OR_RETURN(out.layers, read_layers(config, object, *traits, layers, out.experts));
  GIMBAL_RETURN_IF_ERROR(read_ffn(config, *traits, out));
  set_default_tokens(object, *traits, out);
  GIMBAL_RETURN_IF_ERROR(read_special_tokens(config, out));
  GIMBAL_RETURN_IF_ERROR(read_dtype(config, out));
  skip_harmless_fields(config);
  for (auto& name : config.unread()) {
    if (config.has(name)) out.unknown_fields.push_back(std::move(name));
  }
  std::ranges::sort(out.unknown_fields);
  return out;
}

Result<ModelConfig> parse_model_config(std::string_view config_text) {
  GIMBAL_ASSIGN_OR_RETURN(const Json object, parse_json(config_text));
  return parse_model_config(object);
}

Result<void> apply_generation_config(const nlohmann::json& generation_config, ModelConfig& config) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(generation_config));
  return read_special_tokens(object, config);
}

Result<ModelConfig> load_model_config(const std::string& model_dir) {
  const std::string path = model_dir + "/config.json";
  GIMBAL_ASSIGN_OR_RETURN(const Json object, read_json_file(path, kMaxConfigBytes));
  auto config = parse_model_config(object);
  if (!config.ok()) return config.error().within(path);
  const std::string generation_path = model_dir + "/generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(generation_path, ignored)) return config;
  GIMBAL_ASSIGN_OR_RETURN(const Json generation, read_json_file(generation_path, kMaxConfigBytes));
  const auto applied = apply_generation_config(generation, *config);
  if (!applied.ok()) return applied.error().within(generation_path);
  return config;
}

}  // namespace gimbal::model_config
