#include "model_config/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace gimbal::model_config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Json qwen3_30b_a3b() {
  return Json::parse(R"({
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 6144,
    "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [],
    "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true,
    "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": false,
    "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true,
    "use_sliding_window": false, "vocab_size": 151936})");
}

TEST(ModelConfigTest, ReadsQwen3Moe) {
  const auto config = parse_model_config(qwen3_30b_a3b());
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->family, Family::kQwen3Moe);
  EXPECT_EQ(config->architecture, "Qwen3MoeForCausalLM");
  EXPECT_EQ(config->num_layers(), 48);
  EXPECT_EQ(config->moe_layers(), 48);
  EXPECT_EQ(config->heads, 32);
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(config->experts, 128);
  EXPECT_EQ(config->experts_per_token, 8);
  EXPECT_EQ(config->moe_intermediate, 768);
  EXPECT_EQ(config->dense_intermediate, 0);
  EXPECT_TRUE(config->norm_topk_prob);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_EQ(config->dtype, "bfloat16");
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151645));
  EXPECT_THAT(config->unknown_fields, IsEmpty());
  EXPECT_EQ(parameter_counts(*config).total(), 30'532'122'624);
  EXPECT_EQ(config->kv_bytes_per_token(2), 98304);
}

}  // namespace
}  // namespace gimbal::model_config
