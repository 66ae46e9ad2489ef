#include "apps/engine_cost.h"

#include <gtest/gtest.h>

namespace gimbal::apps {
namespace {

model_config::ModelConfig config_of(std::string_view text) {
  auto config = model_config::parse_model_config(text);
  GIMBAL_CHECK(config.ok(), config.ok() ? "" : config.error().message);
  return std::move(config).value();
}

// The bench preset. A layer: attention 2 x 1024 x 1024 + 2 x 256 x 1024 = 2 621 440, router 32 x
// 1024 = 32 768, an expert 3 x 1024 x 768 = 2 359 296. Output matrix 32 000 x 1024 = 32 768 000.
model_config::ModelConfig bench_preset() {
  return config_of(R"({
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu",
    "hidden_size": 1024, "intermediate_size": 768, "max_position_embeddings": 4096,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "num_hidden_layers": 12,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": false,
    "vocab_size": 32000, "num_experts": 32, "num_experts_per_tok": 4, "norm_topk_prob": true,
    "moe_intermediate_size": 768, "decoder_sparse_step": 1, "mlp_only_layers": []})");
}

TEST(EngineCost, OneDecodeOfTheBenchPresetReadsItsActiveWeights) {
  // 12 x (2 621 440 + 32 768 + 4 x 2 359 296) + 32 768 000 = 177 864 704 weights of 2 bytes, and
  // norms 12 x (2 x 1024 + 2 x 64) + 1024 = 27 136 of 4 bytes.
  EXPECT_EQ(step_weight_bytes(bench_preset(), 2, 12 * 4), 177'864'704.0 * 2 + 27'136.0 * 4);
  EXPECT_NEAR(step_weight_bytes(bench_preset(), 2, 12 * 4), 0.356e9, 0.0005e9);
}

TEST(EngineCost, EveryFurtherExpertIsReadOnce) {
  const model_config::ModelConfig config = bench_preset();
  EXPECT_EQ(step_weight_bytes(config, 2, 49) - step_weight_bytes(config, 2, 48), 2'359'296.0 * 2);
  EXPECT_EQ(step_weight_bytes(config, 4, 49) - step_weight_bytes(config, 4, 48), 2'359'296.0 * 4);
  // Batch 8, 21.0 experts a layer.
  EXPECT_NEAR(step_weight_bytes(config, 2, 12 * 21.0), 1.319e9, 0.001e9);
}

TEST(EngineCost, APromptTokenOfTheBenchPresetPassesItsActiveMatrices) {
  EXPECT_EQ(matrix_flops(bench_preset(), 1, 0), 290'193'408.0);
  EXPECT_EQ(matrix_flops(bench_preset(), 512, 1), 512 * 290'193'408.0 + 2 * 32'768'000.0);
}

TEST(EngineCost, CountsDenseLayersAndTheirBiasesAndATiedOutputMatrix) {
  const model_config::ModelConfig config = config_of(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "tie_word_embeddings": true,
    "attention_bias": true, "vocab_size": 100})");
  // A layer: attention 32 x (32 + 2 x 16) + 32 x 32 = 3072, FFN 3 x 32 x 64 = 6144, biases
  // 32 + 2 x 16 + 32 = 96, norms 64; then the final norm 32 and the output matrix 3200.
  EXPECT_EQ(step_weight_bytes(config, 2, 0), (2 * 9216 + 3200) * 2 + (2 * 96 + 2 * 64 + 32) * 4);
  EXPECT_EQ(matrix_flops(config, 3, 1), 2 * (3 * 2 * 9216 + 3200));
}

TEST(EngineCost, CountsASharedExpertInMoeLayersOnly) {
  const model_config::ModelConfig config = config_of(R"({
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "hidden_act": "silu",
    "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 128,
    "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "vocab_size": 100, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 48, "decoder_sparse_step": 2, "mlp_only_layers": []})");
  // Attention 2 x 4096, one dense FFN 6144, one router 256, one shared expert 3 x 32 x 48 and its
  // gate 32, an expert 1536, output matrix 3200; biases 2 x 96, norms 2 x 64 + 32.
  const double common = 2 * 4096 + 6144 + 256 + 4640;
  EXPECT_EQ(step_weight_bytes(config, 2, 5), (common + 5 * 1536 + 3200) * 2 + (192 + 160) * 4);
  EXPECT_EQ(matrix_flops(config, 1, 1), 2 * (common + 2 * 1536 + 3200));
}

}  // namespace
}  // namespace gimbal::apps
