#include "synthetic/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "synthetic/make_model.h"

namespace gimbal::synthetic {
namespace {

Json file_of(const SyntheticOptions& options, const std::string& name) {
  for (const auto& file : text_files(options)) {
    if (file.name == name) return *parse_json(file.text);
  }
  return {};
}

SyntheticOptions with_vocabulary(int size) {
  SyntheticOptions options;
  options.vocab_size = size;
  return options;
}

TEST(ModelFiles, EveryVocabularyIdHasAText) {
  for (const int size : {260, 300, 777, 5000}) {
    const Json tokenizer = file_of(with_vocabulary(size), "tokenizer.json");
    std::set<int> ids;
    for (const auto& [text, id] : tokenizer["model"]["vocab"].items()) {
      EXPECT_FALSE(text.empty());
      ids.insert(id.get<int>());
    }
    for (const auto& token : tokenizer["added_tokens"]) {
      EXPECT_TRUE(token["special"].get<bool>());
      ids.insert(token["id"].get<int>());
    }
    EXPECT_EQ(ids.size(), static_cast<std::size_t>(size));
    EXPECT_EQ(*ids.begin(), 0);
    EXPECT_EQ(*ids.rbegin(), size - 1);
  }
}

TEST(ModelFiles, EveryMergeMakesATokenOfTheVocabulary) {
  const Json tokenizer = file_of(with_vocabulary(2000), "tokenizer.json");
  const Json& vocab = tokenizer["model"]["vocab"];
  std::set<std::string> made;
  for (const auto& merge : tokenizer["model"]["merges"]) {
    ASSERT_EQ(merge.size(), 2U);
    const auto left = merge[0].get<std::string>();
    const auto right = merge[1].get<std::string>();
    ASSERT_TRUE(vocab.contains(left));
    ASSERT_TRUE(vocab.contains(right));
    ASSERT_TRUE(vocab.contains(left + right));
    made.insert(left + right);
  }
  EXPECT_EQ(made.size() + 256, vocab.size());
}

TEST(ModelFiles, SpecialTokensAreTheSameInEveryFile) {
  const SyntheticOptions options = with_vocabulary(400);
  const Json config = file_of(options, "config.json");
  const Json generation = file_of(options, "generation_config.json");
  const Json tokenizer = file_of(options, "tokenizer.json");
  const Json tokenizer_config = file_of(options, "tokenizer_config.json");
  EXPECT_EQ(config["eos_token_id"], 399);
  EXPECT_EQ(generation["eos_token_id"], Json({399, 397}));
  EXPECT_EQ(tokenizer["added_tokens"][2]["content"], tokenizer_config["eos_token"]);
  EXPECT_EQ(tokenizer["added_tokens"][2]["id"], 399);
  EXPECT_EQ(tokenizer_config["added_tokens_decoder"]["397"]["content"],
            tokenizer_config["pad_token"]);
  EXPECT_THAT(tokenizer_config["chat_template"].get<std::string>(),
              testing::HasSubstr("add_generation_prompt"));
}

// Options away from every default, as far as the family has them.
SyntheticOptions unusual(Family family) {
  const FamilyTraits& traits = traits_of(family);
  SyntheticOptions o = family_defaults(family);
  o.hidden_size = 96;
  o.layers = 6;
  o.heads = 6;
  o.kv_heads = 3;
  o.head_dim = traits.free_head_dim ? 32 : 16;
  o.vocab_size = 500;
  o.max_positions = 2048;
  o.intermediate_size = 160;
  o.tie_embeddings = true;
  o.attention_bias = family != Family::kMixtral;
  o.rope = {.kind = RopeKind::kYarn, .theta = 5e5, .factor = 8.0, .original_max_positions = 256};
  if (traits.has_sliding_window) o.sliding_window = 40;
  if (family == Family::kOlmoe) o.clip_qkv = 3.5;
  if (traits.has_experts) {
    o.experts = 12;
    o.experts_per_token = 3;
    o.moe_intermediate_size = 48;
    o.shared_intermediate_size = 80;
  }
  if (traits.has_dense_layers) {
    o.decoder_sparse_step = 2;
    o.mlp_only_layers = {3};
  }
  return o;
}

TEST(ModelFiles, TheConfigSaysWhatTheOptionsSay) {
  for (const Family family : {Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                              Family::kOlmoe, Family::kLlama, Family::kQwen3}) {
    const SyntheticOptions options = unusual(family);
    const auto valid = validate(options);
    ASSERT_TRUE(valid.ok()) << valid.error().message;
    const std::string text = config_file(options).text;
    const auto parsed = model_config::parse_model_config(std::string_view(text));
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    EXPECT_EQ(parsed->family, family);
    EXPECT_EQ(parsed->hidden_size, options.hidden_size);
    EXPECT_EQ(parsed->num_layers(), options.layers);
    EXPECT_EQ(parsed->heads, options.heads);
    EXPECT_EQ(parsed->kv_heads, options.kv_heads);
    EXPECT_EQ(parsed->head_dim, options.head_dim);
    EXPECT_EQ(parsed->vocab_size, options.vocab_size);
    EXPECT_EQ(parsed->max_positions, options.max_positions);
    EXPECT_EQ(parsed->rope.kind, RopeKind::kYarn);
    EXPECT_EQ(parsed->rope.original_max_positions, 256);
    EXPECT_EQ(parsed->tie_embeddings, options.tie_embeddings);
    EXPECT_EQ(parsed->qkv_bias, options.attention_bias);
    EXPECT_EQ(parsed->clip_qkv.has_value(), family == Family::kOlmoe);
    EXPECT_THAT(parsed->unknown_fields, testing::IsEmpty());
    for (int layer = 0; layer < options.layers; ++layer) {
      EXPECT_EQ(parsed->is_moe(LayerIndex{layer}), has_experts(options, layer)) << layer;
    }
    // The reader's own count of what such a model holds.
    EXPECT_EQ(model_config::parameter_counts(*parsed).total(), parameter_count(options))
        << model_config::model_type_of(family);
  }
}

}  // namespace
}  // namespace gimbal::synthetic
