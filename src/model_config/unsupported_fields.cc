#include "model_config/unsupported_fields.h"

#include <fmt/format.h>

namespace gimbal::model_config {
namespace {

// Fields that pass only when they ask for nothing.
constexpr std::string_view kMustBeOff[] = {
    "quantization_config",
    "compression_config",
    "is_encoder_decoder",
    "add_cross_attention",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "attention_sink",
    "attention_sinks",
    "attention_sink_size",
    "use_attention_sinks",
    "mlp_bias",
    "alibi",
    "use_alibi",
    "attention_chunk_size",
    "no_rope_layers",
    "n_shared_experts",
    "num_shared_experts",
    "first_k_dense_replace",
    "use_bidirectional_attention",
    "parallel_attention",
    "kv_lora_rank",
    "q_lora_rank",
    "rope_interleaved",
    "interleaved_rope",
    "attention_multiplier",
    "query_pre_attn_scalar",
    "vision_config",
    "audio_config",
    "text_config",
    "pruned_heads",
    "use_mla",
    "router_bias",
    "use_moe_router_bias",
};

// Factors that pass only when they are 1 (or null).
constexpr std::string_view kMustBeOne[] = {
    "pretraining_tp",
    "is_causal",
    "logit_scale",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "routed_scaling_factor",
    "rotary_pct",
    "n_group",
    "topk_group",
};

struct RequiredName {
  std::string_view field;
  std::string_view value;
};
constexpr RequiredName kMustBeNamed[] = {
    {"hidden_act", "silu"},
    {"hidden_activation", "silu"},
    {"scoring_func", "softmax"},
    {"topk_method", "greedy"},
};

// Of training, of the library that wrote the file, and of other kinds of models. The defaults for
// sampling that old files carry are not for config.json to give.
constexpr std::string_view kHarmless[] = {
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "use_cache",
    "initializer_range",
    "attention_dropout",
    "hidden_dropout",
    "output_router_logits",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "tokenizer_class",
    "_attn_implementation",
    "attn_implementation",
    "_experts_implementation",
    "sep_token_id",
    "decoder_start_token_id",
    "max_window_layers",
    "num_nextn_predict_layers",
    "auto_map",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
    "_commit_hash",
    "torchscript",
    "tf_legacy_loss",
    "use_bfloat16",
    "gradient_checkpointing",
    "is_decoder",
    "tie_encoder_decoder",
    "cross_attention_hidden_size",
    "finetuning_task",
    "task_specific_params",
    "prefix",
    "embd_pdrop",
    "resid_pdrop",
    "classifier_dropout",
    "num_labels",
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
};

bool asks_for_nothing(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0.0;
  return value.is_null() ||
         value.empty();  // "" is not empty() for nlohmann, nor does anyone write it
}

bool is_one(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  return value.is_number() && value.get<double>() == 1.0;
}

Error refusal(const JsonObject& config, std::string_view name, const Json& value,
              std::string_view accepted) {
  return unsupported(fmt::format("{} is not supported with a value other than {}, is {}",
                                 config.path_of(name), accepted, excerpt(value)),
                     config.path_of(name));
}

Result<void> must_be_off(JsonObject& config, std::string_view name) {
  const Json* value = config.raw(name);
  if (value == nullptr || asks_for_nothing(*value)) return {};
  return refusal(config, name, *value, "null, false or 0");
}

}  // namespace

Result<void> refuse_unsupported_fields(JsonObject& config, const FamilyTraits& traits) {
  for (const auto name : kMustBeOff)
    GIMBAL_RETURN_IF_ERROR(must_be_off(config, name));
  for (const auto name : kMustBeOne) {
    const Json* value = config.raw(name);
    if (value != nullptr && !is_one(*value)) return refusal(config, name, *value, "1");
  }
  for (const auto& [name, wanted] : kMustBeNamed) {
    const Json* value = config.raw(name);
    if (value != nullptr && *value != wanted) return refusal(config, name, *value, wanted);
  }
  // Fields that one family reads and another would silently leave out.
  if (!traits.attention_bias) GIMBAL_RETURN_IF_ERROR(must_be_off(config, "attention_bias"));
  if (!traits.qkv_bias) GIMBAL_RETURN_IF_ERROR(must_be_off(config, "qkv_bias"));
  if (!traits.has_experts) {
    GIMBAL_RETURN_IF_ERROR(must_be_off(config, "num_experts"));
    GIMBAL_RETURN_IF_ERROR(must_be_off(config, "num_local_experts"));
  }
  if (traits.shared_intermediate == 0) {
    GIMBAL_RETURN_IF_ERROR(must_be_off(config, "shared_expert_intermediate_size"));
  }
  if (traits.family != Family::kOlmoe) GIMBAL_RETURN_IF_ERROR(must_be_off(config, "clip_qkv"));
  if (traits.always_norm_topk && config.has("norm_topk_prob")) {
    const Json* value = config.raw("norm_topk_prob");
    if (*value != true) return refusal(config, "norm_topk_prob", *value, "true");
  }
  if (traits.family == Family::kOlmoe || traits.family == Family::kLlama) {
    GIMBAL_RETURN_IF_ERROR(must_be_off(config, "use_sliding_window"));
    // A window that is switched off explicitly is no window.
    if (config.has("use_sliding_window")) {
      (void)config.raw("sliding_window");
    } else {
      GIMBAL_RETURN_IF_ERROR(must_be_off(config, "sliding_window"));
    }
  }
  return {};
}

void skip_harmless_fields(JsonObject& config) {
  for (const auto name : kHarmless)
    (void)config.raw(name);
}

}  // namespace gimbal::model_config
