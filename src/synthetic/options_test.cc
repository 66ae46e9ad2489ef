#include "synthetic/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "synthetic/make_model.h"

namespace gimbal::synthetic {
namespace {

using testing::HasSubstr;

constexpr Family kFamilies[] = {Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                                Family::kOlmoe,   Family::kLlama,    Family::kQwen3};

TEST(Options, PresetsHaveTheSizesTheyPromise) {
  EXPECT_NEAR(static_cast<double>(parameter_count(*preset("demo"))) * 2e-6, 30, 1);
  EXPECT_NEAR(static_cast<double>(parameter_count(*preset("mid"))) * 2e-6, 250, 10);
  EXPECT_NEAR(static_cast<double>(parameter_count(*preset("bench"))) * 2e-9, 2.0, 0.01);
  EXPECT_GE(preset("demo")->max_positions, 4096);
  for (const auto* name : {"demo", "mid", "bench"}) {
    EXPECT_TRUE(validate(*preset(name)).ok()) << name;
  }
}

TEST(Options, AnUnknownPresetFamilyOrRopeIsNamed) {
  EXPECT_THAT(preset("huge").error().message, HasSubstr("huge"));
  EXPECT_THAT(parse_family("gpt2").error().message, HasSubstr("gpt2"));
  EXPECT_THAT(parse_rope_kind("ntk").error().message, HasSubstr("ntk"));
  EXPECT_EQ(*parse_family("olmoe"), Family::kOlmoe);
  EXPECT_EQ(*parse_rope_kind("yarn"), RopeKind::kYarn);
}

TEST(Options, TheDefaultsOfEveryFamilyAreValid) {
  for (const Family family : kFamilies) {
    const auto valid = validate(family_defaults(family));
    EXPECT_TRUE(valid.ok()) << valid.error().message;
  }
}

struct BadOption {
  Family family;
  const char* option;
  std::function<void(SyntheticOptions&)> change;
};

TEST(Options, AValueOutOfRangeIsRefusedWithItsOptionsName) {
  constexpr int kHuge = std::numeric_limits<int>::max();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const Family moe = Family::kQwen3Moe;
  const BadOption cases[] = {
      {moe, "hidden", [](auto& o) { o.hidden_size = 0; }},
      {moe, "hidden", [](auto& o) { o.hidden_size = kHuge; }},
      {moe, "layers", [](auto& o) { o.layers = -1; }},
      {moe, "heads", [](auto& o) { o.heads = 0; }},
      {moe, "kv-heads", [](auto& o) { o.kv_heads = 0; }},
      {moe, "kv-heads", [](auto& o) { o.kv_heads = 3; }},
      {moe, "head-dim", [](auto& o) { o.head_dim = 7; }},
      {moe, "vocab", [](auto& o) { o.vocab_size = 259; }},
      {moe, "vocab", [](auto& o) { o.vocab_size = kHuge; }},
      {moe, "max-positions", [](auto& o) { o.max_positions = 0; }},
      {moe, "experts", [](auto& o) { o.experts = 0; }},
      {moe, "experts", [](auto& o) { o.experts = 4096, o.layers = 1024; }},
      {moe, "top-k", [](auto& o) { o.experts_per_token = o.experts + 1; }},
      {moe, "moe-intermediate", [](auto& o) { o.moe_intermediate_size = 0; }},
      {moe, "decoder-sparse-step", [](auto& o) { o.decoder_sparse_step = 0; }},
      {moe, "mlp-only-layers", [](auto& o) { o.mlp_only_layers = {o.layers}; }},
      {moe, "routing-skew", [](auto& o) { o.routing_skew = -1; }},
      {moe, "routing-skew", [](auto& o) { o.routing_skew = kNan; }},
      {moe, "topic-strength", [](auto& o) { o.topic_strength = 64, o.router_gain = 16; }},
      {moe, "topics", [](auto& o) { o.topics = o.hidden_size; }},
      {moe, "rms-norm-eps", [](auto& o) { o.rms_norm_eps = 0; }},
      {moe, "clip-qkv", [](auto& o) { o.clip_qkv = 1; }},
      {moe, "rope-factor", [](auto& o) { o.rope.factor = kNan; }},
      {moe, "rope-theta", [](auto& o) { o.rope.theta = 0; }},
      {moe, "shard-bytes", [](auto& o) { o.shard_bytes = 1; }},
      {moe, "layers",
       [](auto& o) {
         o.hidden_size = 65536, o.layers = 1024, o.experts = 256, o.moe_intermediate_size = 1 << 20;
       }},
      {Family::kMixtral, "mlp-only-layers", [](auto& o) { o.mlp_only_layers = {0}; }},
      {Family::kMixtral, "attention-bias", [](auto& o) { o.attention_bias = true; }},
      {Family::kOlmoe, "head-dim", [](auto& o) { o.head_dim = 32; }},
      {Family::kOlmoe, "sliding-window", [](auto& o) { o.sliding_window = 8; }},
      {Family::kLlama, "heads", [](auto& o) { o.heads = 6; }},
      {Family::kLlama, "routing-skew", [](auto& o) { o.routing_skew = 1; }},
  };
  for (const auto& bad : cases) {
    SyntheticOptions options = family_defaults(bad.family);
    bad.change(options);
    const auto result = validate(options);
    ASSERT_FALSE(result.ok()) << bad.option;
    EXPECT_EQ(result.error().field, bad.option) << result.error().message;
    EXPECT_THAT(result.error().message, HasSubstr(std::string("--") + bad.option));
  }
}

TEST(Options, LayersHaveExpertsAsTheConfigSays) {
  SyntheticOptions options = family_defaults(Family::kQwen2Moe);
  options.layers = 6;
  options.decoder_sparse_step = 2;
  options.mlp_only_layers = {3};
  std::vector<int> layers;
  for (int layer = 0; layer < options.layers; ++layer) {
    if (has_experts(options, layer)) layers.push_back(layer);
  }
  EXPECT_THAT(layers, testing::ElementsAre(1, 5));
  EXPECT_TRUE(has_experts(family_defaults(Family::kMixtral), 0));
  EXPECT_FALSE(has_experts(family_defaults(Family::kLlama), 0));
}

}  // namespace
}  // namespace gimbal::synthetic
