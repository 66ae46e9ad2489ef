#include "cost/profile_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "cost/cost_model.h"

namespace gimbal::cost {
namespace {

// A machine on which nothing is too small to be seen in the times of a step.
HardwareProfile machine() {
  HardwareProfile profile;
  profile.name = "machine";
  profile.description = "for the test";
  profile.memory_gb = 10;
  profile.attention = {
      .layer_us = 40,
      .decode_us = 6,
      .projections = {.stream_gb_per_s = 20, .compute_tflop_per_s = 0.6, .overlap_loss = 1},
      .kv_gb_per_s = 8,
      .prefill_tflop_per_s = 0.2};
  profile.experts = {
      .layer_us = 30,
      .products = {.stream_gb_per_s = 20, .compute_tflop_per_s = 0.7, .overlap_loss = 0.4}};
  profile.step = {.step_us = 150, .sampled_us = 9, .head = profile.attention.projections};
  profile.same_node = profile.other_node = {.latency_us = 1, .gb_per_s = 1};
  profile.move_gb_per_s_same_node = profile.move_gb_per_s_other_node = 1;
  return profile;
}

// Where a fit begins: of other machines.
HardwareProfile guess() {
  HardwareProfile profile = machine();
  profile.attention.layer_us = 5;
  profile.attention.decode_us = 1;
  profile.attention.projections = {.stream_gb_per_s = 50, .compute_tflop_per_s = 2};
  profile.attention.kv_gb_per_s = 30;
  profile.attention.prefill_tflop_per_s = 1;
  profile.experts.layer_us = 5;
  profile.experts.products = {.stream_gb_per_s = 50, .compute_tflop_per_s = 2, .overlap_loss = 0.5};
  profile.step = {.step_us = 1, .head = profile.attention.projections};
  return profile;
}

ModelShape shape() {
  return *find_model("olmoe-1b-7b");
}

double distinct(const ModelShape& model, double tokens) {
  return model.moe_layers() * model.experts *
         (1 - std::pow(1 - static_cast<double>(model.experts_per_token) / model.experts, tokens));
}

// Steps as an engine runs them: prompts in chunks, decodes at some depth, both.
std::vector<MeasuredStep> steps_of(const HardwareProfile& profile, int count,
                                   const std::function<double(Rng&)>& noise) {
  const ModelShape model = shape();
  const CostModel costs = *CostModel::make(model, profile);
  Rng rng(5);
  std::vector<MeasuredStep> steps;
  for (int i = 0; i < count; ++i) {
    MeasuredStep step;
    if (i % 3 != 0) {
      step.work.decodes = 1 + static_cast<int>(rng.below(32));
      step.work.decode_context = step.work.decodes * static_cast<double>(16 + rng.below(2'000));
    }
    if (i % 3 != 1) {
      step.work.prefill_rows = 1 + static_cast<int>(rng.below(512));
      step.work.prefill_context = step.work.prefill_rows * (step.work.prefill_rows / 2.0 +
                                                            static_cast<double>(rng.below(1'000)));
    }
    step.work.sampled = step.work.decodes + (i % 2);
    const double rows = step.work.prefill_rows + step.work.decodes;
    step.distinct_experts = distinct(model, rows);
    step.service_ms = noise(rng) * model.moe_layers() *
                      costs.service_ms(rows * model.experts_per_token,
                                       step.distinct_experts / model.moe_layers());
    const double head = step.work.sampled == 0
                            ? 0
                            : profile.step.head.ms(model.head_parameters * 2,
                                                   2 * step.work.sampled * model.head_parameters);
    step.attention_ms = noise(rng) * (model.moe_layers() * costs.attention_ms(step.work) + head);
    step.whole_ms = step.attention_ms + step.service_ms + 0.15 + 0.009 * step.work.sampled;
    steps.push_back(step);
  }
  return steps;
}

TEST(ProfileFitTest, FindsTheBottomOfACurvedValley) {
  const auto rosenbrock = [](std::span<const double> x) {
    return 100 * std::pow(x[1] - x[0] * x[0], 2) + std::pow(1 - x[0], 2);
  };
  const std::vector<double> found = minimise(rosenbrock, {-1.2, 1});
  EXPECT_NEAR(found[0], 1, 0.01);
  EXPECT_NEAR(found[1], 1, 0.02);
}

TEST(ProfileFitTest, ExactStepsGiveTheMachineBack) {
  const auto steps = steps_of(machine(), 300, [](Rng&) { return 1.0; });
  const auto profile = fit_steps(shape(), steps, guess(), "exact steps");
  ASSERT_TRUE(profile.ok()) << profile.error().message;
  ASSERT_EQ(profile->fitted.size(), 3U);
  for (const FitNote& note : profile->fitted) {
    EXPECT_LT(note.mean_error_percent, 2) << note.what;
    EXPECT_LT(note.max_error_percent, 15) << note.what;
    EXPECT_EQ(note.points, 300);
    EXPECT_EQ(note.from, "exact steps");
  }
  EXPECT_NEAR(profile->experts.products.compute_tflop_per_s, 0.7, 0.07);
  EXPECT_NEAR(profile->experts.products.stream_gb_per_s, 20, 2);
  EXPECT_NEAR(profile->step.step_us, 150, 1);
  EXPECT_NEAR(profile->step.sampled_us, 9, 0.1);
}

TEST(ProfileFitTest, NoiseAndStallsMoveMeansOnlyAsMuchAsTheyAre) {
  // A tenth of noise, and one part in fifty ten times as long.
  const auto noise = [](Rng& rng) {
    return 0.9 + 0.2 * rng.uniform() + (rng.below(50) == 0 ? 9.0 : 0.0);
  };
  const auto steps = steps_of(machine(), 400, noise);
  const auto profile = fit_steps(shape(), steps, guess(), "noisy steps");
  ASSERT_TRUE(profile.ok());
  const CostModel costs = *CostModel::make(shape(), *profile);
  double measured = 0;
  double predicted = 0;
  for (const MeasuredStep& step : steps) {
    const double rows = step.work.prefill_rows + step.work.decodes;
    measured += step.service_ms;
    predicted += costs.moe_layers() * costs.service_ms(rows * costs.model().experts_per_token,
                                                       step.distinct_experts / costs.moe_layers());
  }
  EXPECT_NEAR(predicted, measured, 0.02 * measured);
}

TEST(ProfileFitTest, WhatIsFittedCanBeWrittenAndRead) {
  const auto steps = steps_of(machine(), 100, [](Rng&) { return 1.0; });
  const auto profile = fit_steps(shape(), steps, guess(), "steps");
  ASSERT_TRUE(profile.ok());
  const auto again = profile_from_json(profile_to_json(*profile));
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(*again, *profile);
}

TEST(ProfileFitTest, WhatGangStepsTakeBeyondTheirWorkIsTheExchange) {
  std::vector<std::vector<MeasuredStep>> ranks = {
      steps_of(machine(), 100, [](Rng&) { return 1.0; }),
      steps_of(machine(), 100, [](Rng&) { return 1.0; })};
  std::ranges::reverse(ranks[1]);
  const double messages = 2.0 * shape().moe_layers();
  for (std::size_t i = 0; i < 100; ++i) {
    MeasuredStep& a = ranks[0][i];
    MeasuredStep& b = ranks[1][i];
    const double rows = a.work.prefill_rows + a.work.decodes + b.work.prefill_rows + b.work.decodes;
    // 50 us a message, and half of each row's choices at 2 GB/s.
    const double exchange =
        messages * (0.05 + rows / 2 * shape().experts_per_token / 2 * shape().row_bytes() / 2e6);
    a.gang_step = b.gang_step = i + 1;
    a.whole_ms = b.whole_ms =
        std::max(a.attention_ms, b.attention_ms) + (a.service_ms + b.service_ms) / 2 + exchange;
  }
  const auto profile = fit_group_steps(shape(), ranks, guess(), "a gang");
  ASSERT_TRUE(profile.ok()) << profile.error().message;
  EXPECT_NEAR(profile->same_node.latency_us, 50, 0.5);
  EXPECT_NEAR(profile->same_node.gb_per_s, 2, 0.02);
  EXPECT_LT(profile->fitted.back().max_error_percent, 0.1);
  EXPECT_EQ(profile->fitted.back().points, 100);
  for (MeasuredStep& step : ranks[1])
    step.gang_step = 0;
  EXPECT_FALSE(fit_group_steps(shape(), ranks, guess(), "no gang").ok());
}

TEST(ProfileFitTest, TooFewStepsOrOneKindOnlyAreRefused) {
  const auto one = [](Rng&) { return 1.0; };
  auto steps = steps_of(machine(), 300, one);
  const auto message = [&](std::span<const MeasuredStep> some) {
    const auto profile = fit_steps(shape(), some, guess(), "steps");
    return profile.ok() ? std::string("accepted") : profile.error().message;
  };
  EXPECT_THAT(message(std::span(steps).first(49)), ::testing::HasSubstr("49"));
  std::erase_if(steps, [](const MeasuredStep& step) { return step.work.decodes > 0; });
  EXPECT_THAT(message(steps), ::testing::HasSubstr("decodes"));
  steps = steps_of(machine(), 300, one);
  std::erase_if(steps, [](const MeasuredStep& step) { return step.work.prefill_rows > 0; });
  EXPECT_THAT(message(steps), ::testing::HasSubstr("prefill"));
}

}  // namespace
}  // namespace gimbal::cost
