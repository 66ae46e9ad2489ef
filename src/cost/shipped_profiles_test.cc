#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "cost/cost_model.h"

namespace gimbal::cost {
namespace {

// A few of the measurements that the profiles were fitted to (tools/fit_profiles.py has all), so
// that the arithmetic of the fit and that of the cost model stay the same.

CostModel model_of(const std::string& model, const std::string& profile) {
  const auto shape = find_model(model);
  const auto hardware = find_profile(profile);
  EXPECT_TRUE(shape.ok() && hardware.ok());
  return *CostModel::make(*shape, *hardware);
}

double uniform_distinct(const ModelShape& shape, double tokens) {
  return shape.experts *
         (1 - std::pow(1 - static_cast<double>(shape.experts_per_token) / shape.experts, tokens));
}

double whole_step_ms(const CostModel& model, const RankWork& work) {
  const double tokens = work.prefill_rows + work.decodes;
  const double service = model.service_ms(tokens * model.model().experts_per_token,
                                          uniform_distinct(model.model(), tokens));
  return model.layers() * (model.attention_ms(work) + service) + model.step_ms(work);
}

RankWork decode(int batch, double context) {
  return {.decodes = batch, .decode_context = batch * context, .sampled = batch};
}

RankWork prefill(int sequences, int rows) {
  return {.prefill_rows = sequences * rows,
          .prefill_context = sequences * (rows * (rows + 1.0) / 2),
          .sampled = sequences};
}

struct Measured {
  RankWork work;
  double ms;
};

TEST(ShippedProfilesTest, VllmsStepsOnAnH200) {
  const CostModel model = model_of("qwen3-30b-a3b", "h200-vllm");
  for (const Measured& step : {Measured{decode(1, 1024), 4.3}, Measured{decode(8, 1024), 9.4},
                               Measured{decode(32, 1024), 16.4}, Measured{decode(128, 1024), 21.3},
                               Measured{prefill(1, 512), 18}, Measured{prefill(1, 2048), 39},
                               Measured{prefill(1, 8192), 154}, Measured{prefill(4, 2048), 126}}) {
    EXPECT_NEAR(whole_step_ms(model, step.work), step.ms, 0.05 * step.ms)
        << step.work.prefill_rows << " prefill rows, " << step.work.decodes << " decodes";
  }
}

// No step of the h200's kernels may be shorter than its roof, or longer than vLLM's.
TEST(ShippedProfilesTest, TheH200StandsBetweenItsRoofAndVllm) {
  const CostModel model = model_of("qwen3-30b-a3b", "h200");
  struct Bounds {
    RankWork work;
    double roof_ms;
    double vllm_ms;
  };
  for (const Bounds& step :
       {Bounds{decode(1, 1024), 1.44, 4.3}, Bounds{decode(8, 1024), 6.2, 9.4},
        Bounds{decode(32, 1024), 13.1, 16.4}, Bounds{prefill(1, 512), 14, 18.8},
        Bounds{prefill(1, 2048), 16, 39}, Bounds{prefill(1, 8192), 90, 154}}) {
    EXPECT_GE(whole_step_ms(model, step.work), step.roof_ms);
    EXPECT_LE(whole_step_ms(model, step.work), 1.15 * step.vllm_ms);
  }
}

TEST(ShippedProfilesTest, ExpertsOfAnRtxPro6000) {
  const CostModel model = model_of("qwen3-30b-a3b", "rtxpro6000");
  struct Service {
    double tokens;
    double distinct;
    double us;
  };
  for (const Service& run :
       {Service{2, 16, 135}, Service{8, 32, 225.6}, Service{32, 128, 822.1},
        Service{256, 64, 472.1}, Service{512, 128, 912}, Service{1024, 32, 357.1},
        Service{2048, 16, 586.2}, Service{2048, 128, 1066.6}}) {
    EXPECT_NEAR(model.service_ms(run.tokens * 8, run.distinct) * 1e3, run.us, 0.15 * run.us)
        << run.tokens << " tokens, " << run.distinct << " experts";
  }
}

TEST(ShippedProfilesTest, AttentionOfAnRtxPro6000) {
  const CostModel model = model_of("qwen3-30b-a3b", "rtxpro6000");
  // Differences of two kernels, so that what the rest of a layer takes falls out.
  const double decodes =
      model.attention_ms(decode(64, 16384)) - model.attention_ms(decode(64, 2048));
  EXPECT_NEAR(decodes * 1e3, 1465.6 - 229.6, 0.15 * 1236);
  const auto with_prefix = [](double prefix) {
    RankWork work = prefill(1, 2048);
    work.prefill_context += 2048 * prefix;
    return work;
  };
  const double chunk = model.attention_ms(with_prefix(8192)) - model.attention_ms(with_prefix(0));
  EXPECT_NEAR(chunk * 1e3, 1151.9 - 174.6, 0.25 * 977);
}

TEST(ShippedProfilesTest, OneExpertOfMixtralOnAnH100) {
  const CostModel model = model_of("mixtral-8x7b", "h100");
  const auto us = [&](double rows) {
    // Without what is assumed of a grouped product and was not timed.
    HardwareProfile bare = model.profile();
    bare.experts.layer_us = 0;
    bare.experts.row_us = 0;
    bare.experts.padding_rows_per_expert = 0;
    return CostModel::make(model.model(), bare)->service_ms(rows, 1) * 1e3;
  };
  EXPECT_NEAR(us(1), 124.6, 0.05 * 124.6);
  EXPECT_NEAR(us(128), 141.6, 0.15 * 141.6);
  EXPECT_NEAR(us(2048), 920.8, 0.05 * 920.8);
}

TEST(ShippedProfilesTest, QllmsDecodeIterationOnAnA100) {
  const CostModel model = model_of("mixtral-8x7b", "a100-mixtral-4bit-hf");
  const double ms = whole_step_ms(model, decode(32, 512));
  EXPECT_GE(ms, 300);
  EXPECT_LE(ms, 400);
}

}  // namespace
}  // namespace gimbal::cost
