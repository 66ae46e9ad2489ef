#include "synthetic/model_files.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "synthetic/bpe_vocabulary.h"
#include "synthetic/word_list.h"

namespace gimbal::synthetic {
namespace {

using nlohmann::ordered_json;

constexpr std::array kSpecialTokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

constexpr const char* kChatTemplate =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

int end_of_text(const SyntheticOptions& o) {
  return o.vocab_size - 3;
}
int end_of_turn(const SyntheticOptions& o) {
  return o.vocab_size - 1;
}

ordered_json rope_scaling(const RopeOptions& rope, int max_positions) {
  if (rope.kind == RopeKind::kDefault) return nullptr;
  ordered_json json = {{"rope_type", model_config::to_string(rope.kind)}, {"factor", rope.factor}};
  if (rope.kind == RopeKind::kLinear) return json;
  json["original_max_position_embeddings"] =
      rope.original_max_positions != 0 ? rope.original_max_positions
                                       : std::max(1, static_cast<int>(max_positions / rope.factor));
  if (rope.kind == RopeKind::kLlama3) {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
    return json;
  }
  json["beta_fast"] = rope.beta_fast;
  json["beta_slow"] = rope.beta_slow;
  if (rope.attention_factor != 0) json["attention_factor"] = rope.attention_factor;
  return json;
}

void put_expert_fields(const SyntheticOptions& o, ordered_json& json) {
  json["num_experts_per_tok"] = o.experts_per_token;
  json["output_router_logits"] = false;
  json["router_aux_loss_coef"] = 0.001;
  if (o.family == Family::kMixtral) {
    json["num_local_experts"] = o.experts;
    return;
  }
  json["num_experts"] = o.experts;
  json["norm_topk_prob"] = o.norm_topk;
  if (o.family == Family::kOlmoe) return;
  json["moe_intermediate_size"] = o.moe_intermediate_size;
  if (o.family == Family::kQwen2Moe) {
    json["shared_expert_intermediate_size"] = o.shared_intermediate_size;
  }
  json["decoder_sparse_step"] = o.decoder_sparse_step;
  json["mlp_only_layers"] = o.mlp_only_layers;
}

void put_attention_fields(const SyntheticOptions& o, ordered_json& json) {
  const FamilyTraits& traits = traits_of(o.family);
  json["attention_dropout"] = 0.0;
  if (o.family == Family::kQwen2Moe) {
    json["qkv_bias"] = o.attention_bias;
  } else if (o.family != Family::kMixtral) {
    json["attention_bias"] = o.attention_bias;
  }
  if (o.family == Family::kLlama) json["mlp_bias"] = false;
  if (o.family == Family::kOlmoe) {
    json["clip_qkv"] = o.clip_qkv == 0 ? ordered_json(nullptr) : ordered_json(o.clip_qkv);
  }
  // Mixtral's published configs leave the usual head_dim out.
  if (traits.free_head_dim &&
      (o.family != Family::kMixtral || o.head_dim * o.heads != o.hidden_size)) {
    json["head_dim"] = o.head_dim;
  }
  if (!traits.has_sliding_window) return;
  json["sliding_window"] =
      o.sliding_window == 0 ? ordered_json(nullptr) : ordered_json(o.sliding_window);
  if (o.family == Family::kMixtral) return;
  json["use_sliding_window"] = o.sliding_window != 0;
  // Qwen3's windows begin at this layer, Qwen2-MoE's end before it.
  const bool from_here = o.family == Family::kQwen3 && o.sliding_window != 0;
  const int usual = from_here ? 0 : o.layers;
  json["max_window_layers"] = o.max_window_layers < 0 ? usual : o.max_window_layers;
}

TextFile generation_config_file(const SyntheticOptions& o) {
  const ordered_json json = {{"bos_token_id", end_of_text(o)},
                             {"eos_token_id", {end_of_turn(o), end_of_text(o)}},
                             {"pad_token_id", end_of_text(o)}};
  return {"generation_config.json", json.dump(2) + "\n"};
}

ordered_json added_token(const char* content) {
  return {{"content", content}, {"single_word", false}, {"lstrip", false},
          {"rstrip", false},    {"normalized", false},  {"special", true}};
}

ordered_json bpe_model(const BpeVocabulary& vocabulary) {
  ordered_json vocab = ordered_json::object();
  // Pushed behind each other: operator[] of an ordered object searches from the start each time.
  auto& entries = vocab.get_ref<ordered_json::object_t&>();
  std::vector<std::string> texts;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    texts.push_back(printable(vocabulary.tokens[id]));
    entries.emplace_back(texts.back(), id);
  }
  ordered_json merges = ordered_json::array();
  for (const auto& [left, right] : vocabulary.merges) {
    merges.push_back(
        {texts[static_cast<std::size_t>(left)], texts[static_cast<std::size_t>(right)]});
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

TextFile tokenizer_file(const SyntheticOptions& o) {
  const auto size = static_cast<std::size_t>(o.vocab_size) - kSpecialTokens.size();
  const BpeVocabulary vocabulary = train_bpe(training_words(size), size);
  GIMBAL_CHECK(vocabulary.tokens.size() == size, "too few training words");
  ordered_json added = ordered_json::array();
  for (std::size_t i = 0; i < kSpecialTokens.size(); ++i) {
    ordered_json token = {{"id", size + i}};
    token.update(added_token(kSpecialTokens[i]));
    added.push_back(std::move(token));
  }
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", true},
                                   {"use_regex", true}};
  const ordered_json json = {{"version", "1.0"},
                             {"truncation", nullptr},
                             {"padding", nullptr},
                             {"added_tokens", std::move(added)},
                             {"normalizer", nullptr},
                             {"pre_tokenizer", byte_level},
                             {"post_processor", byte_level},
                             {"decoder", byte_level},
                             {"model", bpe_model(vocabulary)}};
  return {"tokenizer.json", json.dump(1) + "\n"};
}

TextFile tokenizer_config_file(const SyntheticOptions& o) {
  ordered_json decoder = ordered_json::object();
  for (std::size_t i = 0; i < kSpecialTokens.size(); ++i) {
    decoder[std::to_string(static_cast<std::size_t>(end_of_text(o)) + i)] =
        added_token(kSpecialTokens[i]);
  }
  const ordered_json json = {{"add_prefix_space", false},
                             {"added_tokens_decoder", std::move(decoder)},
                             {"bos_token", nullptr},
                             {"eos_token", kSpecialTokens[2]},
                             {"pad_token", kSpecialTokens[0]},
                             {"unk_token", nullptr},
                             {"chat_template", kChatTemplate},
                             {"clean_up_tokenization_spaces", false},
                             {"model_max_length", o.max_positions},
                             {"tokenizer_class", "PreTrainedTokenizerFast"}};
  return {"tokenizer_config.json", json.dump(2) + "\n"};
}

}  // namespace

TextFile config_file(const SyntheticOptions& o) {
  ordered_json json = {{"architectures", {model_config::architecture_of(o.family)}},
                       {"model_type", model_config::model_type_of(o.family)},
                       {"bos_token_id", end_of_text(o)},
                       {"eos_token_id", end_of_turn(o)},
                       {"pad_token_id", end_of_text(o)},
                       {"hidden_act", "silu"},
                       {"hidden_size", o.hidden_size},
                       {"initializer_range", 0.02},
                       {"intermediate_size", o.intermediate_size},
                       {"max_position_embeddings", o.max_positions},
                       {"num_attention_heads", o.heads},
                       {"num_hidden_layers", o.layers},
                       {"num_key_value_heads", o.kv_heads},
                       {"rms_norm_eps", o.rms_norm_eps},
                       {"rope_scaling", rope_scaling(o.rope, o.max_positions)},
                       {"rope_theta", o.rope.theta},
                       {"tie_word_embeddings", o.tie_embeddings},
                       {"torch_dtype", tensor::to_string(o.dtype)},
                       {"use_cache", true},
                       {"vocab_size", o.vocab_size}};
  put_attention_fields(o, json);
  if (traits_of(o.family).has_experts) put_expert_fields(o, json);
  return {"config.json", json.dump(2) + "\n"};
}

std::vector<TextFile> text_files(const SyntheticOptions& options) {
  return {config_file(options), generation_config_file(options), tokenizer_file(options),
          tokenizer_config_file(options)};
}

}  // namespace gimbal::synthetic
