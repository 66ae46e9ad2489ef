#include "cost/model_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/temporary_folder.h"
#include "cost/shipped_files.h"

namespace gimbal::cost {
namespace {

using ::testing::HasSubstr;

ModelShape shipped(const std::string& name) {
  auto shape = find_model(name);
  EXPECT_TRUE(shape.ok()) << (shape.ok() ? "" : shape.error().message);
  return *shape;
}

double billions(const ModelShape& shape) {
  return shape.weight_bytes() / shape.bytes_per_parameter / 1e9;
}

TEST(ModelShapeTest, ShippedModelsHaveTheirPublishedSizes) {
  EXPECT_NEAR(billions(shipped("qwen3-30b-a3b")), 30.5, 0.1);
  EXPECT_NEAR(billions(shipped("mixtral-8x7b")), 46.7, 0.1);
  EXPECT_NEAR(billions(shipped("olmoe-1b-7b")), 6.92, 0.05);
  EXPECT_NEAR(billions(shipped("qwen3-235b-a22b")), 235.1, 0.5);
  EXPECT_NEAR(billions(shipped("deepseek-v3")), 671.0, 0.5);
  EXPECT_EQ(shipped_models().size(), 5U);
}

TEST(ModelShapeTest, Qwen3ByHand) {
  const ModelShape shape = shipped("qwen3-30b-a3b");
  EXPECT_EQ(shape.name, "qwen3-30b-a3b");
  EXPECT_EQ(shape.layers(), 48);
  EXPECT_EQ(shape.moe_layers(), 48);
  EXPECT_EQ(shape.experts, 128);
  EXPECT_EQ(shape.experts_per_token, 8);
  EXPECT_NEAR(shape.expert_bytes(), 9.44e6, 0.01e6);
  EXPECT_EQ(shape.kv_bytes_per_token(), 96 * 1024);
  EXPECT_EQ(shape.attention_parameters, 2048.0 * (4096 + 2 * 512) + 4096.0 * 2048);
  EXPECT_EQ(shape.prefill_flops_per_pair, 4.0 * 32 * 128);
  EXPECT_EQ(shape.row_bytes(), 4096);
}

TEST(ModelShapeTest, DeepSeekByHand) {
  const ModelShape shape = shipped("deepseek-v3");
  EXPECT_EQ(shape.layers(), 61);
  EXPECT_EQ(shape.moe_layers(), 58);
  EXPECT_FALSE(shape.is_moe(2));
  EXPECT_TRUE(shape.is_moe(3));
  EXPECT_EQ(shape.experts_of_layer()[2], 0);
  EXPECT_EQ(shape.experts_of_layer()[3], 256);
  EXPECT_EQ(shape.kv_values_per_token, 576);
  EXPECT_EQ(shape.kv_heads, 1);
  EXPECT_EQ(shape.bytes_per_parameter, 1);
  EXPECT_EQ(shape.shared_parameters, 3.0 * 7168 * 2048);
  EXPECT_NEAR(shape.attention_parameters, 187.1e6, 0.1e6);
}

TEST(ModelShapeTest, Float32ModelsAreTwiceTheBytes) {
  Json config = Json::parse(*find_shipped(shipped_model_files(), "olmoe-1b-7b"));
  config["torch_dtype"] = "float32";
  const auto shape = shape_from_json(config, "olmoe");
  ASSERT_TRUE(shape.ok());
  EXPECT_EQ(shape->weight_bytes(), 2 * shipped("olmoe-1b-7b").weight_bytes());
  EXPECT_EQ(shape->row_bytes(), 2 * shipped("olmoe-1b-7b").row_bytes());
}

TEST(ModelShapeTest, WrongFieldsOfDeepSeekAreNamed) {
  const Json config = Json::parse(*find_shipped(shipped_model_files(), "deepseek-v3"));
  for (const char* field :
       {"num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings",
        "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
        "qk_rope_head_dim", "v_head_dim", "first_k_dense_replace", "intermediate_size",
        "moe_intermediate_size", "n_routed_experts", "num_experts_per_tok"}) {
    for (const Json& value : {Json(), Json("many"), Json(-1), Json(1e30), Json::array()}) {
      Json wrong = config;
      wrong[field] = value;
      const auto shape = shape_from_json(wrong, "wrong");
      ASSERT_FALSE(shape.ok()) << field << " " << value;
      EXPECT_THAT(shape.error().message, HasSubstr(field));
    }
  }
  Json wrong = config;
  wrong["quantization_config"]["quant_method"] = "int3";
  EXPECT_THAT(shape_from_json(wrong, "wrong").error().message, HasSubstr("quant_method"));
}

TEST(ModelShapeTest, NamesThatAreNothingListTheShippedOnes) {
  const auto shape = find_model("no-such-model");
  ASSERT_FALSE(shape.ok());
  EXPECT_EQ(shape.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(shape.error().message, HasSubstr("no-such-model"));
  EXPECT_THAT(shape.error().message, HasSubstr("qwen3-30b-a3b"));
}

TEST(ModelShapeTest, FilesAndFoldersAreReadAndNamedInErrors) {
  const TemporaryFolder folder;
  const std::string file =
      folder.write("config.json", *find_shipped(shipped_model_files(), "mixtral-8x7b"));
  for (const auto& path : {folder.path(), file}) {
    const auto shape = find_model(path);
    ASSERT_TRUE(shape.ok()) << shape.error().message;
    EXPECT_EQ(shape->experts, 8);
  }
  folder.write("config.json", R"({"model_type": "gpt2"})");
  const auto shape = find_model(folder.path());
  ASSERT_FALSE(shape.ok());
  EXPECT_THAT(shape.error().message, HasSubstr(file));
  EXPECT_THAT(shape.error().message, HasSubstr("model_type"));
}

TEST(ModelShapeTest, ConfigsThatAreNoObjectsAreErrors) {
  for (const Json& value : {Json(), Json(3), Json::array(), Json("deepseek_v3")})
    EXPECT_FALSE(shape_from_json(value, "wrong").ok());
}

}  // namespace
}  // namespace gimbal::cost
