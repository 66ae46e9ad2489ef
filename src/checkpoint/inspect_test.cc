#include "checkpoint/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/temporary_folder.h"
#include "checkpoint/shard_writer.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;
using tensor::DType;
using testing::HasSubstr;

TEST(InspectTest, KnowsThePartsOfEveryFamily) {
  const std::pair<const char*, ModelPart> cases[] = {
      {"model.embed_tokens.weight", ModelPart::kEmbeddings},
      {"lm_head.weight", ModelPart::kLmHead},
      {"model.norm.weight", ModelPart::kNorms},
      {"model.layers.3.input_layernorm.weight", ModelPart::kNorms},
      {"model.layers.3.post_attention_layernorm.weight", ModelPart::kNorms},
      {"model.layers.3.self_attn.q_norm.weight", ModelPart::kNorms},
      {"model.layers.3.self_attn.q_proj.weight", ModelPart::kAttention},
      {"model.layers.3.self_attn.v_proj.bias", ModelPart::kAttention},
      {"model.layers.3.self_attn.o_proj.weight", ModelPart::kAttention},
      {"model.layers.3.self_attn.rotary_emb.inv_freq", ModelPart::kOther},
      {"model.layers.3.mlp.gate.weight", ModelPart::kRouter},
      {"model.layers.3.mlp.experts.12.gate_proj.weight", ModelPart::kExperts},
      {"model.layers.3.mlp.shared_expert.up_proj.weight", ModelPart::kSharedExperts},
      {"model.layers.3.mlp.shared_expert_gate.weight", ModelPart::kSharedExperts},
      {"model.layers.3.mlp.gate_proj.weight", ModelPart::kDenseFfn},
      {"model.layers.3.mlp.down_proj.weight", ModelPart::kDenseFfn},
      {"model.layers.3.block_sparse_moe.gate.weight", ModelPart::kRouter},
      {"model.layers.3.block_sparse_moe.experts.0.w1.weight", ModelPart::kExperts},
      {"visual.blocks.0.norm.weight", ModelPart::kOther},
  };
  for (const auto& [name, part] : cases)
    EXPECT_EQ(part_of(name), part) << name;
}

class InspectModelTest : public testing::Test {
 protected:
  InspectModelTest() { write_model(); }

  // A one-layer model: 2 heads x 4, 2 experts x 6, 10 tokens, hidden 8.
  void write_model() {
    const std::string layer = "model.layers.0.";
    std::vector<TensorSpec> specs = {{"model.embed_tokens.weight", DType::kBF16, {10, 8}},
                                     {"lm_head.weight", DType::kBF16, {10, 8}},
                                     {"model.norm.weight", DType::kBF16, {8}},
                                     {layer + "input_layernorm.weight", DType::kBF16, {8}},
                                     {layer + "post_attention_layernorm.weight", DType::kBF16, {8}},
                                     {layer + "self_attn.q_norm.weight", DType::kBF16, {4}},
                                     {layer + "self_attn.k_norm.weight", DType::kBF16, {4}},
                                     {layer + "self_attn.q_proj.weight", DType::kBF16, {8, 8}},
                                     {layer + "self_attn.k_proj.weight", DType::kBF16, {4, 8}},
                                     {layer + "self_attn.v_proj.weight", DType::kBF16, {4, 8}},
                                     {layer + "self_attn.o_proj.weight", DType::kBF16, {8, 8}},
                                     {layer + "mlp.gate.weight", DType::kF32, {2, 8}}};
    for (const auto* expert : {"0", "1"}) {
      const std::string prefix = layer + "mlp.experts." + expert;
      specs.push_back({prefix + ".gate_proj.weight", DType::kBF16, {6, 8}});
      specs.push_back({prefix + ".up_proj.weight", DType::kBF16, {6, 8}});
      specs.push_back({prefix + ".down_proj.weight", DType::kBF16, {8, 6}});
    }
    auto writer = ShardWriter::create(dir_, specs, {.max_shard_bytes = 400});
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    while (const TensorSpec* spec = writer->current()) {
      ASSERT_TRUE(writer->append(std::vector<std::byte>(spec->bytes())).ok());
    }
    ASSERT_TRUE(writer->finish().ok());
    std::ofstream(dir_ + "/config.json")
        << R"({"model_type": "qwen3_moe", "hidden_size": 8, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
               "vocab_size": 10, "num_experts": 2, "num_experts_per_tok": 1,
               "moe_intermediate_size": 6, "max_position_embeddings": 64})";
  }

  TemporaryFolder folder_;
  const std::string dir_ = folder_.path("model");
};

TEST_F(InspectModelTest, CountsWhatTheConfigPromises) {
  const auto summary = inspect_model(dir_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  const auto expected = parameter_counts(summary->config);
  const auto parameters = [&](ModelPart part) {
    return static_cast<std::int64_t>(summary->part(part).parameters);
  };
  EXPECT_EQ(parameters(ModelPart::kEmbeddings), expected.embeddings);
  EXPECT_EQ(parameters(ModelPart::kAttention), expected.attention);
  EXPECT_EQ(parameters(ModelPart::kRouter), expected.router);
  EXPECT_EQ(parameters(ModelPart::kExperts), expected.experts);
  EXPECT_EQ(parameters(ModelPart::kNorms), expected.norms);
  EXPECT_EQ(parameters(ModelPart::kLmHead), expected.lm_head);
  EXPECT_EQ(static_cast<std::int64_t>(summary->total().parameters), expected.total());
  EXPECT_EQ(summary->part(ModelPart::kRouter).bytes, 64U) << "stored in 4 bytes an element";
  EXPECT_EQ(summary->total().tensors, 18);
  EXPECT_GT(summary->files, 1);
  EXPECT_EQ(summary->dtypes.at("BF16"), 17);
  EXPECT_EQ(summary->dtypes.at("F32"), 1);
}

// Tied embeddings are kept twice: as rows to look up, and packed as the output matrix.
TEST_F(InspectModelTest, CountsTiedEmbeddingsAsTheyAreLoaded) {
  auto summary = inspect_model(dir_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  const std::uint64_t untied = fit_in_memory(*summary, 1'000'000).weight_bytes;
  summary->config.tie_embeddings = true;
  summary->parts[static_cast<std::size_t>(ModelPart::kLmHead)] = {};
  EXPECT_EQ(fit_in_memory(*summary, 1'000'000).weight_bytes, untied);
}

TEST_F(InspectModelTest, SaysWhatFitsInMemory) {
  const auto summary = inspect_model(dir_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  const std::uint64_t parameters = summary->total().parameters;
  // One layer, keys and values of one head x 4: 8 elements a token.
  auto fit = fit_in_memory(*summary, parameters * 2 + 16 * 200 + 15);
  EXPECT_TRUE(fit.weights_fit);
  EXPECT_EQ(fit.weight_bytes, parameters * 2);
  EXPECT_EQ(fit.kv_bytes_per_token, 16U);
  EXPECT_EQ(fit.kv_tokens, 200U);
  EXPECT_EQ(fit.max_model_len, 64);
  EXPECT_EQ(fit.full_sequences, 3U);

  fit = fit_in_memory(*summary, parameters * 4 + 32 * 100,
                      {.dtype = DType::kF32, .max_model_len = 25});
  EXPECT_EQ(fit.kv_tokens, 100U);
  EXPECT_EQ(fit.full_sequences, 4U);

  fit = fit_in_memory(*summary, parameters * 2 - 1);
  EXPECT_FALSE(fit.weights_fit);
  EXPECT_EQ(fit.kv_tokens, 0U);
  EXPECT_THAT(to_text(*summary, &fit), HasSubstr("no: the weights alone are larger"));
}

TEST_F(InspectModelTest, RendersForPeopleAndPrograms) {
  const auto summary = inspect_model(dir_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  const auto fit = fit_in_memory(*summary, 1'000'000);
  const std::string text = to_text(*summary, &fit);
  EXPECT_THAT(text, HasSubstr("Qwen3MoeForCausalLM"));
  EXPECT_THAT(text, HasSubstr("2 a layer in 1 layers, 1 a token, 6 wide"));
  EXPECT_THAT(text, HasSubstr("memory            1.00 MB"));
  EXPECT_THAT(text, HasSubstr("sequences of 64 tokens"));

  const auto json = to_json(*summary, &fit);
  EXPECT_EQ(json["model_type"], "qwen3_moe");
  EXPECT_EQ(json["parts"]["experts"]["tensors"], 6);
  EXPECT_EQ(json["parts"]["experts"]["bytes"], 2 * 3 * 48 * 2);
  EXPECT_EQ(json["fit"]["kv_tokens"], fit.kv_tokens);
  EXPECT_FALSE(to_json(*summary, nullptr).contains("fit"));
}

TEST_F(InspectModelTest, NamesTheFileThatIsMissing) {
  fs::remove(dir_ + "/config.json");
  EXPECT_THAT(inspect_model(dir_).error().message, HasSubstr("config.json"));
}

}  // namespace
}  // namespace gimbal::checkpoint
