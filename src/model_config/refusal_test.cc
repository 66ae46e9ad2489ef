// What parse_model_config refuses: values out of range, and fields that are not supported.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "model_config/model_config.h"
#include "model_config/published_configs.h"

namespace gimbal::model_config {
namespace {

using testing::HasSubstr;

std::vector<Json> all_published() {
  return {mixtral_8x7b(), qwen15_moe_a27b(), qwen3_30b_a3b(),
          olmoe_1b_7b(),  llama_31_8b(),     qwen3_8b()};
}

// `base` with one field set to the JSON in `value`.
Result<ModelConfig> with(Json base, const std::string& field, std::string_view value) {
  base[field] = Json::parse(value);
  return parse_model_config(base);
}

struct Case {
  const char* field;
  const char* value;
};

TEST(RefusalTest, EveryFamilyRefusesUnsupportedFieldsByName) {
  const Case cases[] = {
      {"hidden_act", R"("gelu")"},
      {"hidden_act", "3"},
      {"hidden_activation", R"("gelu_pytorch_tanh")"},
      {"quantization_config", R"({"quant_method": "awq", "bits": 4})"},
      {"compression_config", R"({"format": "int8"})"},
      {"pretraining_tp", "2"},
      {"mlp_bias", "true"},
      {"partial_rotary_factor", "0.5"},
      {"rotary_pct", "0.25"},
      {"attention_sinks", "true"},
      {"attention_sink_size", "4"},
      {"attn_logit_softcapping", "50.0"},
      {"final_logit_softcapping", "30.0"},
      {"logit_scale", "0.0625"},
      {"embedding_multiplier", "12.0"},
      {"residual_multiplier", "0.22"},
      {"attention_multiplier", "0.015"},
      {"routed_scaling_factor", "2.5"},
      {"n_shared_experts", "1"},
      {"first_k_dense_replace", "3"},
      {"scoring_func", R"("sigmoid")"},
      {"topk_method", R"("noaux_tc")"},
      {"n_group", "8"},
      {"no_rope_layers", "[1, 0]"},
      {"attention_chunk_size", "8192"},
      {"kv_lora_rank", "512"},
      {"is_encoder_decoder", "true"},
      {"is_causal", "false"},
      {"vision_config", R"({"depth": 2})"},
      {"architectures", R"(["LlamaForSequenceClassification"])"},
      {"architectures", R"("MixtralForCausalLM")"},
      {"torch_dtype", R"("float64")"},
      {"dtype", R"("float8_e4m3fn")"},
  };
  for (const auto& base : all_published()) {
    for (const auto& [field, value] : cases) {
      const auto result = with(base, field, value);
      ASSERT_FALSE(result.ok()) << base["model_type"] << " " << field << " " << value;
      EXPECT_EQ(result.error().code, ErrorCode::kUnsupported) << result.error().message;
      EXPECT_EQ(result.error().field, field);
      EXPECT_THAT(result.error().message, HasSubstr(field));
    }
  }
}

TEST(RefusalTest, ValuesThatAskForNothingPass) {
  for (const auto& base : all_published()) {
    for (const auto& [field, value] :
         {Case{"quantization_config", "null"}, Case{"quantization_config", "{}"},
          Case{"mlp_bias", "false"}, Case{"pretraining_tp", "1"},
          Case{"partial_rotary_factor", "1.0"}, Case{"attn_logit_softcapping", "null"},
          Case{"attention_sink_size", "0"}, Case{"scoring_func", R"("softmax")"},
          Case{"architectures", "null"}, Case{"architectures", "[]"},
          Case{"dtype", R"("torch.float32")"}}) {
      const auto result = with(base, field, value);
      EXPECT_TRUE(result.ok()) << base["model_type"] << ": " << result.error().message;
    }
  }
}

TEST(RefusalTest, FieldsOfOtherFamiliesAreNotLeftOutSilently) {
  const auto refused = [](const Json& base, const char* field, const char* value) {
    const auto result = with(base, field, value);
    ASSERT_FALSE(result.ok()) << base["model_type"] << " " << field;
    EXPECT_EQ(result.error().field, field);
    EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  };
  refused(mixtral_8x7b(), "attention_bias", "true");
  refused(mixtral_8x7b(), "norm_topk_prob", "false");
  refused(qwen15_moe_a27b(), "attention_bias", "true");
  refused(qwen3_8b(), "qkv_bias", "true");
  refused(llama_31_8b(), "clip_qkv", "8.0");
  refused(llama_31_8b(), "num_experts", "8");
  refused(qwen3_8b(), "num_local_experts", "8");
  refused(qwen3_30b_a3b(), "shared_expert_intermediate_size", "512");
  refused(llama_31_8b(), "sliding_window", "4096");
  refused(olmoe_1b_7b(), "sliding_window", "4096");
  refused(olmoe_1b_7b(), "use_sliding_window", "true");
  Json two_layers = qwen3_30b_a3b();
  two_layers["num_hidden_layers"] = 2;
  refused(two_layers, "layer_types", R"(["full_attention", "sliding_attention"])");
  two_layers = qwen3_8b();
  two_layers["num_hidden_layers"] = 2;
  refused(two_layers, "layer_types", R"(["full_attention", "chunked_attention"])");
}

TEST(RefusalTest, ValuesOutOfRangeAreErrorsThatNameTheField) {
  const Case cases[] = {
      {"hidden_size", "0"},
      {"hidden_size", "-1"},
      {"hidden_size", "1e300"},
      {"hidden_size", "9223372036854775807"},
      {"hidden_size", "18446744073709551615"},
      {"hidden_size", R"("4096")"},
      {"hidden_size", "[4096]"},
      {"hidden_size", "true"},
      {"num_hidden_layers", "0"},
      {"num_hidden_layers", "1025"},
      {"num_hidden_layers", "2147483648"},
      {"num_attention_heads", "0"},
      {"num_attention_heads", "100000"},
      {"num_key_value_heads", "3"},
      {"num_key_value_heads", "64"},
      {"head_dim", "0"},
      {"head_dim", "127"},
      {"head_dim", "65536"},
      {"vocab_size", "0"},
      {"vocab_size", "4294967296"},
      {"max_position_embeddings", "0"},
      {"max_position_embeddings", "1e18"},
      {"rms_norm_eps", "-1e-6"},
      {"rms_norm_eps", "1e308"},
      {"rms_norm_eps", R"("1e-6")"},
      {"rope_theta", "0"},
      {"rope_theta", "1"},
      {"rope_theta", "-10000"},
      {"rope_theta", "1e300"},
      {"tie_word_embeddings", "1"},
      {"intermediate_size", "0"},
      {"intermediate_size", "1099511627776"},
      {"layer_types", R"("full_attention")"},
      {"layer_types", R"(["full_attention"])"},
      {"eos_token_id", R"({"id": 1})"},
      {"bos_token_id", "[1, 2]"},
      {"torch_dtype", "16"},
  };
  for (const auto& base : all_published()) {
    for (const auto& [field, value] : cases) {
      const auto result = with(base, field, value);
      ASSERT_FALSE(result.ok()) << base["model_type"] << " " << field << " " << value;
      EXPECT_THAT(result.error().message, HasSubstr(field)) << value;
    }
  }
}

TEST(RefusalTest, ExpertFieldsOutOfRangeAreErrors) {
  for (const auto& base : {qwen15_moe_a27b(), qwen3_30b_a3b()}) {
    for (const auto& [field, value] :
         {Case{"num_experts", "-1"}, Case{"num_experts", "4097"}, Case{"num_experts", "2"},
          Case{"num_experts_per_tok", "0"}, Case{"num_experts_per_tok", "129"},
          Case{"moe_intermediate_size", "0"}, Case{"decoder_sparse_step", "0"},
          Case{"mlp_only_layers", "3"}, Case{"mlp_only_layers", "[-1]"},
          Case{"mlp_only_layers", "[0.5]"}, Case{"mlp_only_layers", "[18446744073709551615]"},
          Case{"norm_topk_prob", R"("yes")"}}) {
      const auto result = with(base, field, value);
      ASSERT_FALSE(result.ok()) << base["model_type"] << " " << field << " " << value;
    }
  }
  EXPECT_THAT(with(mixtral_8x7b(), "num_local_experts", "0").error().message,
              HasSubstr("num_local_experts"));
  EXPECT_THAT(with(mixtral_8x7b(), "num_experts_per_tok", "9").error().message,
              HasSubstr("at most the number of experts, 8"));
  EXPECT_THAT(with(mixtral_8x7b(), "sliding_window", "0").error().message,
              HasSubstr("sliding_window"));
  EXPECT_THAT(with(olmoe_1b_7b(), "head_dim", "64").error().message, HasSubstr("head_dim"));
  EXPECT_THAT(with(olmoe_1b_7b(), "clip_qkv", "-1").error().message, HasSubstr("clip_qkv"));
}

TEST(RefusalTest, RopeThatIsNotSupportedOrBrokenIsAnError) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"rope_type": "dynamic", "factor": 2})", "rope_scaling.rope_type"},
      {R"({"type": "longrope"})", "rope_scaling.type"},
      {R"({"type": "su"})", "is \"su\""},
      {R"({"rope_type": "mrope", "mrope_section": [16, 24, 24]})", "mrope"},
      {R"({"rope_type": 7})", "must be a string"},
      {R"([])", "rope_scaling must be an object"},
      {R"({"full_attention": {"rope_type": "default"}})", "by layer type"},
      {R"({"rope_type": "linear"})", "rope_scaling.factor must be given"},
      {R"({"rope_type": "linear", "factor": 0})", "rope_scaling.factor"},
      {R"({"rope_type": "linear", "factor": 1e300})", "rope_scaling.factor"},
      {R"({"rope_type": "llama3", "factor": 8})", "low_freq_factor must be given"},
      {R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4})",
       "greater than low_freq_factor"},
      {R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 0, "high_freq_factor": 4})",
       "low_freq_factor"},
      {R"({"rope_type": "yarn", "factor": 0.5})", "factor"},
      {R"({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0})",
       "original_max_position_embeddings"},
      {R"({"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2})", "beta_fast"},
      {R"({"rope_type": "yarn", "factor": 2, "truncate": "no"})", "truncate"},
      {R"({"rope_type": "default", "partial_rotary_factor": 0.5})",
       "rope_scaling.partial_rotary_factor"},
      {R"({"rope_type": "default", "rope_theta": -1})", "rope_scaling.rope_theta"},
  };
  for (const auto& base : all_published()) {
    for (const auto& [value, message] : cases) {
      const auto result = with(base, "rope_scaling", value);
      ASSERT_FALSE(result.ok()) << value;
      EXPECT_THAT(result.error().message, HasSubstr(message)) << value;
    }
  }
}

TEST(RefusalTest, TwoDifferentRopesAreAnError) {
  auto json = llama_31_8b();
  json["rope_parameters"] = json["rope_scaling"];
  EXPECT_TRUE(parse_model_config(json).ok());
  json["rope_parameters"]["factor"] = 4;
  EXPECT_THAT(parse_model_config(json).error().message, HasSubstr("the same as rope_scaling"));
}

TEST(RefusalTest, OtherModelTypesAreNamedWithTheKnownOnes) {
  const auto result = with(llama_31_8b(), "model_type", R"("deepseek_v3")");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(result.error().message, HasSubstr("mixtral, qwen2_moe, qwen3_moe, olmoe"));
  EXPECT_THAT(result.error().message, HasSubstr("\"deepseek_v3\""));
  EXPECT_THAT(parse_model_config(Json::object()).error().message, HasSubstr("model_type"));
  EXPECT_THAT(with(llama_31_8b(), "model_type", "5").error().message, HasSubstr("model_type"));
}

TEST(RefusalTest, TextThatIsNotAJsonObjectIsAnError) {
  for (const auto* text : {"", "7", "[]", "{", "null", "\"qwen3\"", R"({"model_type": "llama",})",
                           R"({"hidden_size": 1, "hidden_size": 2})"}) {
    EXPECT_FALSE(parse_model_config(std::string_view(text)).ok()) << text;
  }
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_FALSE(parse_model_config(std::string_view(deep)).ok());
}

// Sizes at their bounds at once: sums and products must fit, and nothing large is allocated.
TEST(RefusalTest, TheLargestSizesDoNotOverflow) {
  auto json = qwen15_moe_a27b();
  for (const auto& [field, value] : {std::pair{"hidden_size", 65536},
                                     {"num_hidden_layers", 1024},
                                     {"num_attention_heads", 1024},
                                     {"num_key_value_heads", 1024},
                                     {"head_dim", 1024},
                                     {"vocab_size", 1 << 22},
                                     {"max_position_embeddings", 1 << 27},
                                     {"num_experts", 4096},
                                     {"num_experts_per_tok", 4096},
                                     {"moe_intermediate_size", 1 << 20},
                                     {"shared_expert_intermediate_size", 1 << 20},
                                     {"intermediate_size", 1 << 20}}) {
    json[field] = value;
  }
  const auto config = parse_model_config(json);
  ASSERT_TRUE(config.ok()) << config.error().message;
  const auto total = parameter_counts(*config).total();
  EXPECT_GT(total, std::int64_t{1} << 59);
  EXPECT_LT(total, INT64_MAX / 4);
  EXPECT_EQ(active_parameters(*config), total - (std::int64_t{65536} << 22) + 65536);
  EXPECT_LT(config->kv_bytes_per_token(4), INT64_MAX / config->context_length);
}

}  // namespace
}  // namespace gimbal::model_config
