#include "model_config/model_config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "base/temporary_folder.h"
#include "model_config/published_configs.h"

namespace gimbal::model_config {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

ModelConfig parsed(const Json& json) {
  auto config = parse_model_config(json);
  EXPECT_TRUE(config.ok()) << config.error().message;
  return config.ok() ? std::move(*config) : ModelConfig{};
}

std::vector<int> windows(const ModelConfig& config) {
  std::vector<int> out;
  for (const auto& layer : config.layers)
    out.push_back(layer.sliding_window);
  return out;
}

std::vector<bool> moe_of(const ModelConfig& config) {
  std::vector<bool> out;
  for (const auto& layer : config.layers)
    out.push_back(layer.is_moe);
  return out;
}

TEST(ModelConfigTest, ReadsMixtral) {
  const auto config = parsed(mixtral_8x7b());
  EXPECT_EQ(config.family, Family::kMixtral);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.max_positions, 32768);
  EXPECT_EQ(config.context_length, 32768);
  EXPECT_FLOAT_EQ(config.rms_eps, 1e-5F);
  EXPECT_EQ(config.rope, RopeConfig{.theta = 1e6});
  EXPECT_EQ(config.qk_norm, QkNorm::kNone);
  EXPECT_FALSE(config.qkv_bias || config.o_bias || config.tie_embeddings);
  EXPECT_EQ(config.experts, 8);
  EXPECT_EQ(config.experts_per_token, 2);
  EXPECT_EQ(config.moe_intermediate, 14336);
  EXPECT_EQ(config.dense_intermediate, 0);
  EXPECT_TRUE(config.norm_topk_prob) << "Mixtral renormalises without being asked";
  EXPECT_THAT(config.layers, Each(LayerConfig{.is_moe = true, .sliding_window = 0}));
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_THAT(config.unknown_fields, IsEmpty());
  EXPECT_EQ(parameter_counts(config).total(), 46'702'792'704);
  EXPECT_EQ(active_parameters(config), 12'748'857'344);
}

TEST(ModelConfigTest, ReadsQwen2Moe) {
  const auto config = parsed(qwen15_moe_a27b());
  EXPECT_EQ(config.family, Family::kQwen2Moe);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias);
  EXPECT_EQ(config.experts, 60);
  EXPECT_EQ(config.experts_per_token, 4);
  EXPECT_EQ(config.moe_intermediate, 1408);
  EXPECT_EQ(config.shared_intermediate, 5632);
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_THAT(windows(config), Each(0));
  EXPECT_THAT(config.unknown_fields, IsEmpty());
  EXPECT_EQ(parameter_counts(config).total(), 14'315'784'192);
}

TEST(ModelConfigTest, ReadsQwen3Moe) {
  const auto config = parsed(qwen3_30b_a3b());
  EXPECT_EQ(config.family, Family::kQwen3Moe);
  EXPECT_EQ(config.architecture, "Qwen3MoeForCausalLM");
  EXPECT_EQ(config.num_layers(), 48);
  EXPECT_EQ(config.moe_layers(), 48);
  EXPECT_TRUE(config.is_moe(LayerIndex{47}));
  EXPECT_EQ(config.heads, 32);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 128) << "not hidden_size / heads";
  EXPECT_EQ(config.q_size(), 4096);
  EXPECT_EQ(config.kv_size(), 512);
  EXPECT_EQ(config.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(config.experts_per_token, 8);
  EXPECT_EQ(config.moe_intermediate, 768);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_EQ(config.dtype, "bfloat16");
  EXPECT_THAT(config.eos_token_ids, ElementsAre(151645));
  EXPECT_THAT(config.unknown_fields, IsEmpty());
  EXPECT_EQ(parameter_counts(config).total(), 30'532'122'624);
  EXPECT_EQ(config.kv_bytes_per_token(2), 98304);
}

TEST(ModelConfigTest, ReadsOlmoe) {
  auto json = olmoe_1b_7b();
  const auto config = parsed(json);
  EXPECT_EQ(config.family, Family::kOlmoe);
  EXPECT_EQ(config.qk_norm, QkNorm::kWholeProjection);
  EXPECT_EQ(config.moe_intermediate, 1024);
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_EQ(config.clip_qkv, std::nullopt);
  EXPECT_EQ(config.pad_token_id, 1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(50279));
  EXPECT_EQ(parameter_counts(config).total(), 6'919'161'856);
  json["clip_qkv"] = 8;
  EXPECT_EQ(parsed(json).clip_qkv, 8.0F);
  json["num_key_value_heads"] = nullptr;
  EXPECT_EQ(parsed(json).kv_heads, 16);
}

TEST(ModelConfigTest, ReadsLlamaWithItsRope) {
  const auto config = parsed(llama_31_8b());
  EXPECT_EQ(config.family, Family::kLlama);
  EXPECT_EQ(config.dense_intermediate, 14336);
  EXPECT_EQ(config.experts, 0);
  EXPECT_EQ(config.moe_layers(), 0);
  EXPECT_EQ(config.rope, (RopeConfig{.kind = RopeKind::kLlama3,
                                     .theta = 500000.0,
                                     .factor = 8.0,
                                     .low_freq_factor = 1.0,
                                     .high_freq_factor = 4.0,
                                     .original_max_positions = 8192}));
  EXPECT_EQ(config.context_length, 131072);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(128001, 128008, 128009));
  EXPECT_THAT(config.unknown_fields, IsEmpty());
  EXPECT_EQ(parameter_counts(config).total(), 8'030'261'248);
  EXPECT_EQ(active_parameters(config), 8'030'261'248 - 128256LL * 4096 + 4096);
}

TEST(ModelConfigTest, ReadsQwen3WithYarn) {
  auto json = qwen3_8b();
  EXPECT_EQ(parameter_counts(parsed(json)).total(), 8'190'735'360);
  EXPECT_EQ(parsed(json).context_length, 40960);
  json["rope_scaling"] = Json::parse(
      R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})");
  const auto config = parsed(json);
  EXPECT_EQ(config.rope.kind, RopeKind::kYarn);
  EXPECT_EQ(config.rope.factor, 4.0);
  EXPECT_EQ(config.rope.original_max_positions, 32768);
  EXPECT_EQ(config.rope.beta_fast, 32.0);
  EXPECT_EQ(config.rope.beta_slow, 1.0);
  EXPECT_DOUBLE_EQ(config.rope.attention_factor, 0.1 * std::log(4.0) + 1.0);
  EXPECT_EQ(config.context_length, 131072);
}

TEST(ModelConfigTest, TiedEmbeddingsHaveNoHeadOfTheirOwn) {
  auto json = llama_31_8b();
  json["tie_word_embeddings"] = true;
  const auto config = parsed(json);
  EXPECT_EQ(parameter_counts(config).lm_head, 0);
  EXPECT_EQ(active_parameters(config), parameter_counts(config).total());
}

TEST(ModelConfigTest, BiasesAreCounted) {
  auto json = llama_31_8b();
  const auto before = parameter_counts(parsed(json)).attention;
  json["attention_bias"] = true;
  const auto config = parsed(json);
  EXPECT_TRUE(config.qkv_bias && config.o_bias);
  EXPECT_EQ(parameter_counts(config).attention - before, 32 * (4096 + 2 * 1024 + 4096));
}

TEST(ModelConfigTest, AbsentFieldsTakeTheDefaultsOfTheFamily) {
  const auto mixtral = parsed({{"model_type", "mixtral"}});
  EXPECT_EQ(mixtral.rope.theta, 1e6);
  EXPECT_EQ(mixtral.kv_heads, 8);
  EXPECT_EQ(mixtral.max_positions, 131072);
  EXPECT_THAT(mixtral.eos_token_ids, ElementsAre(2));
  const auto qwen3 = parsed({{"model_type", "qwen3"}});
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(qwen3.rope.theta, 1e4);
  EXPECT_THAT(qwen3.eos_token_ids, IsEmpty());
  EXPECT_EQ(parsed({{"model_type", "qwen3_moe"}}).kv_heads, 4);
  EXPECT_TRUE(parsed({{"model_type", "qwen2_moe"}}).qkv_bias);
  EXPECT_EQ(parsed({{"model_type", "olmoe"}}).kv_heads, 16);
  EXPECT_EQ(parsed({{"model_type", "llama"}}).max_positions, 2048);
}

TEST(ModelConfigTest, ReadsTheNamesOfNewerVersionsToo) {
  auto json = qwen3_30b_a3b();
  json.erase("torch_dtype");
  json.erase("rope_theta");
  json.erase("rope_scaling");
  json["dtype"] = "float16";
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  json["num_local_experts"] = json["num_experts"];
  json.erase("num_experts");
  const auto config = parsed(json);
  EXPECT_EQ(config.dtype, "float16");
  EXPECT_EQ(config.rope, RopeConfig{.theta = 5e5});
  EXPECT_EQ(config.experts, 128);
  EXPECT_THAT(config.unknown_fields, IsEmpty());
  json["num_experts"] = 64;
  EXPECT_THAT(parse_model_config(json).error().message, HasSubstr("equal to num_experts, 64"));
}

TEST(ModelConfigTest, MixesDenseAndMoeLayers) {
  auto json = qwen15_moe_a27b();
  json["num_hidden_layers"] = 6;
  json["decoder_sparse_step"] = 2;
  json["mlp_only_layers"] = {3, 99};
  const auto config = parsed(json);
  EXPECT_THAT(moe_of(config), ElementsAre(false, true, false, false, false, true));
  EXPECT_EQ(config.dense_intermediate, 5632);
  json["num_experts"] = 0;
  const auto dense = parsed(json);
  EXPECT_EQ(dense.moe_layers(), 0);
  EXPECT_EQ(dense.experts_per_token, 0);
  EXPECT_EQ(parameter_counts(dense).router, 0);
  EXPECT_EQ(parameter_counts(dense).shared_experts, 0);
}

TEST(ModelConfigTest, SlidingWindowsFollowEachFamilysRule) {
  auto mixtral = mixtral_8x7b();
  mixtral["sliding_window"] = 4096;
  EXPECT_THAT(windows(parsed(mixtral)), Each(4096));

  auto qwen3_moe = qwen3_30b_a3b();
  qwen3_moe["sliding_window"] = 1024;
  EXPECT_THAT(windows(parsed(qwen3_moe)), Each(0)) << "use_sliding_window is false";
  qwen3_moe["use_sliding_window"] = true;
  qwen3_moe["max_window_layers"] = 1;
  EXPECT_THAT(windows(parsed(qwen3_moe)), Each(1024)) << "max_window_layers has no part in it";

  auto qwen2_moe = qwen15_moe_a27b();
  qwen2_moe["num_hidden_layers"] = 6;
  qwen2_moe["use_sliding_window"] = true;
  qwen2_moe["sliding_window"] = 64;
  qwen2_moe["max_window_layers"] = 4;
  EXPECT_THAT(windows(parsed(qwen2_moe)), ElementsAre(64, 0, 64, 0, 0, 0));

  auto qwen3 = qwen3_8b();
  qwen3["num_hidden_layers"] = 4;
  qwen3["use_sliding_window"] = true;
  qwen3["sliding_window"] = 64;
  qwen3["max_window_layers"] = 2;
  EXPECT_THAT(windows(parsed(qwen3)), ElementsAre(0, 0, 64, 64));
  qwen3["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                          "sliding_attention"};
  EXPECT_THAT(windows(parsed(qwen3)), ElementsAre(64, 0, 0, 64));
  qwen3["use_sliding_window"] = false;
  EXPECT_THAT(parse_model_config(qwen3).error().message, HasSubstr("sliding_window must be given"));
}

TEST(ModelConfigTest, ResolvesTheAttentionFactorOfYarn) {
  auto json = qwen3_8b();
  const auto factor = [&json](const char* more) {
    json["rope_scaling"] = Json::parse(fmt::format(R"({{"type": "yarn", "factor": 8 {}}})", more));
    return parsed(json).rope.attention_factor;
  };
  EXPECT_DOUBLE_EQ(factor(""), 0.1 * std::log(8.0) + 1.0);
  EXPECT_DOUBLE_EQ(factor(R"(, "attention_factor": 1.25)"), 1.25);
  EXPECT_DOUBLE_EQ(factor(R"(, "mscale": 1.0, "mscale_all_dim": 1.0)"), 1.0);
  EXPECT_DOUBLE_EQ(factor(R"(, "mscale": 2.0, "mscale_all_dim": 1.0)"),
                   (0.2 * std::log(8.0) + 1.0) / (0.1 * std::log(8.0) + 1.0));
  EXPECT_DOUBLE_EQ(factor(R"(, "mscale": 2.0)"), 0.1 * std::log(8.0) + 1.0);
}

TEST(ModelConfigTest, AnOuterOriginalContextWinsOverTheOneInside) {
  auto json = llama_31_8b();
  json["original_max_position_embeddings"] = 4096;
  EXPECT_EQ(parsed(json).rope.original_max_positions, 4096);
}

TEST(ModelConfigTest, LinearRopeStretchesTheContext) {
  auto json = qwen3_8b();
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  const auto config = parsed(json);
  EXPECT_EQ(config.rope.kind, RopeKind::kLinear);
  EXPECT_EQ(config.rope.factor, 2.5);
  EXPECT_EQ(config.context_length, 102400);
}

TEST(ModelConfigTest, CollectsFieldsThatNothingKnows) {
  auto json = qwen3_8b();
  json["zebra"] = 1;
  json["apple"] = {{"a", 1}};
  json["absent"] = nullptr;
  json["rope_scaling"] = {{"rope_type", "default"}, {"colour", 3}};
  EXPECT_THAT(parsed(json).unknown_fields, ElementsAre("apple", "rope_scaling.colour", "zebra"));
}

TEST(ModelConfigTest, PublishedConfigsHaveNoUnknownFields) {
  for (const Json& json : {mixtral_8x7b(), qwen15_moe_a27b(), qwen3_30b_a3b(), olmoe_1b_7b(),
                           llama_31_8b(), qwen3_8b()}) {
    EXPECT_EQ(unknown_fields_note(parsed(json)), "") << json.at("model_type");
  }
}

TEST(ModelConfigTest, HarmlessFieldsAreSilent) {
  auto json = qwen3_8b();
  json["auto_map"] = {{"AutoModel", "modeling.Model"}};
  json["transformers_version"] = "9.9.9";
  json["do_sample"] = true;
  json["temperature"] = 0.7;
  json["num_labels"] = 2;
  EXPECT_EQ(unknown_fields_note(parsed(json)), "");
}

TEST(ModelConfigTest, NotesUnknownFieldsInOneLineOfBoundedLength) {
  auto json = llama_31_8b();
  json["zebra"] = 1;
  json["apple\n"] = 2;
  EXPECT_EQ(unknown_fields_note(parsed(json)),
            R"(fields that are not known here and have no effect: "apple\n", "zebra")");
  for (int i = 0; i < 1000; ++i)
    json[fmt::format("b{:04}{}", i, std::string(500, 'b'))] = i;
  const std::string note = unknown_fields_note(parsed(json));
  EXPECT_THAT(note, HasSubstr(" and 982 more"));
  EXPECT_LT(note.size(), 5'000U);
}

TEST(ModelConfigTest, SpecialTokensMayBeAbsentNullOneOrMany) {
  auto json = llama_31_8b();
  json["eos_token_id"] = 7;
  json["bos_token_id"] = nullptr;
  json["pad_token_id"] = -1;
  auto config = parsed(json);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(7));
  EXPECT_EQ(config.bos_token_id, std::nullopt);
  EXPECT_EQ(config.pad_token_id, std::nullopt);
  ASSERT_TRUE(apply_generation_config(Json::parse(R"({"eos_token_id": [9, 7, 9]})"), config).ok());
  EXPECT_THAT(config.eos_token_ids, ElementsAre(9, 7));
  EXPECT_EQ(config.bos_token_id, std::nullopt);
  for (const auto* bad : {R"("</s>")", "1.5", "[[1]]", "2147483648", "-9223372036854775808"}) {
    json["eos_token_id"] = Json::parse(bad);
    EXPECT_FALSE(parse_model_config(json).ok()) << bad;
  }
}

TEST(ModelConfigTest, LoadsAFolder) {
  const TemporaryFolder folder;
  const std::string dir = folder.path();
  EXPECT_THAT(load_model_config(dir).error().message, HasSubstr("config.json"));
  folder.write("config.json", llama_31_8b().dump());
  EXPECT_EQ(load_model_config(dir)->bos_token_id, 128000);
  folder.write("generation_config.json", R"({"bos_token_id": 5})");
  EXPECT_EQ(load_model_config(dir)->bos_token_id, 5);
  folder.write("generation_config.json", R"({"bos_token_id": "x"})");
  EXPECT_THAT(load_model_config(dir).error().message, HasSubstr("generation_config.json"));
}

}  // namespace
}  // namespace gimbal::model_config
