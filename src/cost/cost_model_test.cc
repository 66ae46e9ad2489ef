#include "cost/cost_model.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace gimbal::cost {
namespace {

// Numbers for which times can be worked out by hand: 1 GB/s reads 1 000 bytes in 1 us, 1 TFLOP/s
// computes 1 000 000 flops in 1 us.
HardwareProfile plain_profile() {
  HardwareProfile profile;
  profile.name = "plain";
  profile.memory_gb = 1;
  profile.attention = {.layer_us = 10,
                       .row_us = 1,
                       .decode_us = 2,
                       .projections = {.stream_gb_per_s = 1, .compute_tflop_per_s = 1},
                       .kv_gb_per_s = 2,
                       .mixed_kv_factor = 3,
                       .prefill_tflop_per_s = 0.5,
                       .prefill_key_us = 0.001,
                       .prefill_overlap_loss = 0.5};
  profile.experts = {
      .layer_us = 5,
      .row_us = 0.5,
      .expert_us = 3,
      .products = {.stream_gb_per_s = 1, .compute_tflop_per_s = 1, .overlap_loss = 0.5},
      .padding_rows_per_expert = 2};
  profile.step = {.step_us = 100,
                  .row_us = 1,
                  .sampled_us = 4,
                  .head = {.stream_gb_per_s = 1, .compute_tflop_per_s = 1}};
  profile.same_node = {.latency_us = 3, .gb_per_s = 1};
  profile.other_node = {.latency_us = 20, .gb_per_s = 0.1};
  profile.move_gb_per_s_same_node = 0.5;
  profile.move_gb_per_s_other_node = 0.05;
  return profile;
}

ModelShape plain_shape() {
  ModelShape shape;
  shape.name = "plain";
  shape.layer_is_moe = {false, true, true};
  shape.hidden = 100;
  shape.vocab = 50;
  shape.context_length = 4096;
  shape.heads = 8;
  shape.kv_heads = 2;
  shape.attention_parameters = 40'000;
  shape.router_parameters = 5'000;
  shape.expert_parameters = 10'000;
  shape.shared_parameters = 5'000;
  shape.dense_parameters = 60'000;
  shape.head_parameters = 5'000;
  shape.experts = 4;
  shape.experts_per_token = 2;
  shape.prefill_flops_per_pair = 1'000;
  shape.decode_flops_per_pair = 1'000;
  shape.kv_values_per_token = 100;
  return shape;
}

CostModel plain_model(int attention_tp = 1) {
  auto model = CostModel::make(plain_shape(), plain_profile(), attention_tp);
  EXPECT_TRUE(model.ok());
  return *model;
}

TEST(CostModelTest, AttentionByHand) {
  const CostModel model = plain_model();
  // 10 a layer, 5 rows, 4 for 2 decodes; 50 000 parameters: 100 us to read, 2·5·50 000 = 0.5 us to
  // compute; 30 tokens of 200 bytes at 2 GB/s, three times slower beside prefill: 9 us; 42 pairs of
  // 1 000 flops at 0.5 TFLOP/s: 0.084 us, and half of reading 14 keys, 0.014 us.
  const RankWork work{.prefill_rows = 3, .decodes = 2, .decode_context = 30, .prefill_context = 42};
  EXPECT_NEAR(model.attention_ms(work), (10 + 5 + 4 + 100 + 9 + 0.084 + 0.007) * 1e-3, 1e-12);
}

TEST(CostModelTest, FewPrefillRowsWaitForTheirKeys) {
  const CostModel model = plain_model();
  // 2 rows over 3 000 keys each: 12 us of products, 3 us of keys; 1 row: 6 and 3.
  EXPECT_NEAR(model.attention_ms({.prefill_rows = 2, .prefill_context = 6'000}),
              (10 + 2 + 100 + 12 + 1.5) * 1e-3, 1e-12);
  HardwareProfile slow_keys = plain_profile();
  slow_keys.attention.prefill_key_us = 0.01;
  EXPECT_NEAR(CostModel::make(plain_shape(), slow_keys)
                  ->attention_ms({.prefill_rows = 1, .prefill_context = 3'000}),
              (10 + 1 + 100 + 30 + 3) * 1e-3, 1e-12);
}

TEST(CostModelTest, DecodesAloneReadTheirContextFast) {
  const CostModel model = plain_model();
  EXPECT_NEAR(model.attention_ms({.decodes = 2, .decode_context = 30}),
              (10 + 2 + 4 + 100 + 3) * 1e-3, 1e-12);
}

TEST(CostModelTest, ComputeBoundsManyRows) {
  const CostModel model = plain_model();
  // 2 000 rows: 2·2 000·50 000 flops are 200 us, more than the 100 us of reading.
  EXPECT_NEAR(model.attention_ms({.prefill_rows = 2'000}), (10 + 2'000 + 200) * 1e-3, 1e-12);
}

TEST(CostModelTest, DenseLayerHasItsFeedForwardInsteadOfRouterAndSharedExpert) {
  const CostModel model = plain_model();
  EXPECT_NEAR(model.dense_layer_ms({.prefill_rows = 1}), (10 + 1 + 200) * 1e-3, 1e-12);
}

TEST(CostModelTest, ServiceByHand) {
  const CostModel model = plain_model();
  // 3 experts of 20 000 bytes: 60 us; 40 rows and 6 of padding: 2·46·10 000 = 0.92 us, half of it
  // not hidden.
  EXPECT_NEAR(model.service_ms(40, 3), (5 + 20 + 9 + 60 + 0.46) * 1e-3, 1e-12);
}

TEST(CostModelTest, ExpertWeightsMayBeReadInOtherBytes) {
  HardwareProfile profile = plain_profile();
  profile.experts.bytes_per_parameter = 0.5;
  const auto model = CostModel::make(plain_shape(), profile);
  ASSERT_TRUE(model.ok());
  EXPECT_NEAR(model->service_ms(40, 3), (5 + 20 + 9 + 15 + 0.46) * 1e-3, 1e-12);
}

TEST(CostModelTest, StepByHand) {
  const CostModel model = plain_model();
  // The head's 10 000 bytes: 10 us.
  EXPECT_NEAR(model.step_ms({.prefill_rows = 6, .decodes = 1, .sampled = 2}),
              (100 + 7 + 8 + 10) * 1e-3, 1e-12);
  EXPECT_NEAR(model.step_ms({.prefill_rows = 6}), (100 + 6) * 1e-3, 1e-12);
}

TEST(CostModelTest, NoRowsTakeNoTime) {
  const CostModel model = plain_model();
  EXPECT_EQ(model.attention_ms({}), 0);
  EXPECT_EQ(model.dense_layer_ms({}), 0);
  EXPECT_EQ(model.service_ms(0, 0), 0);
  EXPECT_EQ(model.step_ms({}), 0);
  EXPECT_EQ(model.exchange_ms(0, 0, Tier::kOtherNode), 0);
}

TEST(CostModelTest, ExchangeTakesTheLongerDirection) {
  const CostModel model = plain_model();
  EXPECT_EQ(model.exchange_ms(5'000, 1'000, Tier::kOwnRank), 0);
  EXPECT_NEAR(model.exchange_ms(5'000, 1'000, Tier::kSameNode), 8e-3, 1e-12);
  EXPECT_NEAR(model.exchange_ms(1'000, 5'000, Tier::kOtherNode), 70e-3, 1e-12);
  EXPECT_NEAR(model.move_ms(5'000, Tier::kSameNode), 10e-3, 1e-12);
  EXPECT_NEAR(model.move_ms(5'000, Tier::kOtherNode), 100e-3, 1e-12);
}

TEST(CostModelTest, ATokensExchangeIsItsBytesThereAndBack) {
  const CostModel model = plain_model();
  const double bytes = model.model().experts_per_token * model.model().row_bytes();
  const double latency = model.exchange_ms(1e-9, 0, Tier::kSameNode);
  EXPECT_NEAR(model.exchange_ms_per_token(Tier::kSameNode),
              2 * model.moe_layers() * (model.exchange_ms(bytes, 0, Tier::kSameNode) - latency),
              1e-9);
  EXPECT_GT(model.exchange_ms_per_token(Tier::kOtherNode),
            model.exchange_ms_per_token(Tier::kSameNode));
  EXPECT_EQ(model.exchange_ms_per_token(Tier::kOwnRank), 0);
  // Of four ranks that share the attention each sends a quarter.
  EXPECT_NEAR(plain_model(4).exchange_ms_per_token(Tier::kSameNode),
              model.exchange_ms_per_token(Tier::kSameNode) / 4, 1e-12);
}

TEST(CostModelTest, AttentionIsSplitOverRanksAndSummed) {
  const CostModel model = plain_model(4);
  // A quarter of reading (25 us) and of the pairs; only two kv heads, so half the context. The ring
  // of 6 hops: 3 us and 5 rows·200 bytes/4 at 1 GB/s, 0.25 us, each.
  const RankWork work{.prefill_rows = 3, .decodes = 2, .decode_context = 30, .prefill_context = 42};
  EXPECT_NEAR(model.attention_ms(work), (10 + 5 + 4 + 25 + 4.5 + 0.021 + 0.007 + 6 * 3.25) * 1e-3,
              1e-12);
}

TEST(CostModelTest, AttentionTpThatDoesNotDivideTheHeadsIsNamed) {
  for (const int tp : {0, -1, 3, 16}) {
    const auto model = CostModel::make(plain_shape(), plain_profile(), tp);
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.error().field, "attention_tp");
    EXPECT_NE(model.error().message.find(std::to_string(tp)), std::string::npos);
  }
}

TEST(CostModelTest, PagesFillWhatWeightsLeave) {
  const CostModel model = plain_model();
  // 3·40 000 + 2·10 000 + 60 000 + 2·5 000 parameters everywhere, and 2 layers of 3 experts.
  const double weights = 2 * 210'000 + 2 * 3 * 20'000.0;
  EXPECT_NEAR(model.kv_tokens(3, 0.5), (0.5e9 - weights) / 600, 1e-6);
  EXPECT_EQ(model.kv_tokens(1e6, 0.5), 0);
}

// The naive reference: every term written out in seconds, without the model's structure.
TEST(CostModelTest, RandomWorkAgreesWithPlainArithmetic) {
  Rng rng(7);
  const HardwareProfile p = plain_profile();
  const ModelShape s = plain_shape();
  const CostModel model = plain_model();
  for (int i = 0; i < 2'000; ++i) {
    const RankWork work{.prefill_rows = 1 + static_cast<int>(rng.below(4'000)),
                        .decodes = 1 + static_cast<int>(rng.below(300)),
                        .decode_context = static_cast<double>(rng.below(1'000'000)),
                        .prefill_context = static_cast<double>(rng.below(1'000'000))};
    const double n = work.prefill_rows + work.decodes;
    const double read = 50'000 * 2 / 1e9;
    const double compute = 2 * n * 50'000 / 1e12;
    const double pairs = work.prefill_context * 1'000 / 0.5e12;
    const double keys = work.prefill_context / work.prefill_rows * 0.001e-6;
    const double seconds = 10e-6 + n * 1e-6 + work.decodes * 2e-6 +
                           (read > compute ? read : compute) + 3 * work.decode_context * 200 / 2e9 +
                           (pairs > keys ? pairs : keys) + 0.5 * (pairs > keys ? keys : pairs);
    ASSERT_NEAR(model.attention_ms(work), seconds * 1e3, 1e-9);
    const double rows = static_cast<double>(1 + rng.below(100'000));
    const double distinct = 1 + rng.uniform() * 3;
    const double weights = distinct * s.expert_parameters * 2 / 1e9;
    const double products = 2 * (rows + 2 * distinct) * s.expert_parameters / 1e12;
    const double longer = weights > products ? weights : products;
    const double shorter = weights > products ? products : weights;
    ASSERT_NEAR(model.service_ms(rows, distinct),
                1e3 * (p.experts.layer_us * 1e-6 + rows * 0.5e-6 + distinct * 3e-6 + longer +
                       0.5 * shorter),
                1e-9);
  }
}

}  // namespace
}  // namespace gimbal::cost
