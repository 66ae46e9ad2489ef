#include "policy/step_time_model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace gimbal::policy {
namespace {

constexpr ExpertShape kExperts{.experts = 64, .choices_per_row = 8};

double experts_of(double rows) {
  return 0.8 * 64 * (1 - std::pow(1 - 8.0 / 64, rows));  // some are never chosen
}

double attention_ms(const StepShape& s) {
  return 2 + 0.05 * s.prefill + 0.1 * s.decodes + 1e-4 * s.decode_context +
         1e-6 * s.prefill_context;
}

double service_ms(const StepShape& s) {
  return 1 + 0.08 * s.rows() + 0.2 * experts_of(s.rows());
}

StepShape random_step(Rng& rng, bool prefill = true) {
  StepShape step;
  if (prefill && rng.below(3) > 0) {
    step.add_prefill(static_cast<double>(rng.below(2000)),
                     static_cast<double>(rng.between(1, 512)));
  }
  step.decodes = static_cast<double>(rng.between(step.prefill > 0 ? 0 : 1, 32));
  step.decode_context = step.decodes * static_cast<double>(rng.between(1, 1000));
  return step;
}

void note(StepTimeModel& model, const StepShape& step, double noise = 1) {
  model.note(step, noise * attention_ms(step), noise * service_ms(step), experts_of(step.rows()));
}

void expect_predicts(const StepTimeModel& model, double tolerance) {
  Rng rng(99);
  for (int i = 0; i < 200; ++i) {
    const StepShape step = random_step(rng);
    const double right = attention_ms(step) + service_ms(step);
    EXPECT_NEAR(model.step_ms(step), right, tolerance * right)
        << step.prefill << " " << step.decodes;
  }
}

TEST(StepTimeModelTest, LearnsTheCoefficients) {
  StepTimeModel model(kExperts);
  EXPECT_FALSE(model.fitted());
  Rng rng(1);
  for (int i = 0; i < 400; ++i)
    note(model, random_step(rng));
  ASSERT_TRUE(model.fitted());
  const StepTimeCoefficients fitted = model.coefficients();
  EXPECT_NEAR(fitted.attention[1], 0.05, 1e-4);
  EXPECT_NEAR(fitted.attention[3], 1e-4, 1e-6);
  EXPECT_NEAR(fitted.attention[4], 1e-6, 1e-8);
  EXPECT_NEAR(fitted.service[1], 0.08, 1e-4);
  EXPECT_NEAR(fitted.service[2], 0.2, 1e-3);
  expect_predicts(model, 0.01);
  EXPECT_NEAR(model.distinct_experts(20), experts_of(20), 0.1);
}

TEST(StepTimeModelTest, NoiseAndDescheduledStepsHardlyMoveIt) {
  StepTimeModel model(kExperts);
  Rng rng(2);
  for (int i = 0; i < 2000; ++i) {
    double noise = 0.9 + 0.2 * rng.uniform();
    if (rng.below(20) == 0) noise *= 50;
    note(model, random_step(rng), noise);
  }
  expect_predicts(model, 0.25);
}

TEST(StepTimeModelTest, FollowsAMachineThatGetsSlower) {
  StepTimeModel model(kExperts);
  Rng rng(3);
  for (int i = 0; i < 1000; ++i)
    note(model, random_step(rng), 0.5);
  for (int i = 0; i < 2000; ++i)
    note(model, random_step(rng));
  expect_predicts(model, 0.05);
}

TEST(StepTimeModelTest, AgesWithoutPrefillAndKnowsItAfterwards) {
  StepTimeModel model(kExperts);
  Rng rng(4);
  for (int i = 0; i < 400; ++i)
    note(model, random_step(rng));
  for (int i = 0; i < 20'000; ++i)
    note(model, random_step(rng, false), 0.95 + 0.1 * rng.uniform());
  EXPECT_NEAR(model.coefficients().attention[1], 0.05, 0.01);
}

TEST(StepTimeModelTest, NeverPredictsThatMorePrefillTakesLess) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    StepTimeModel model(kExperts);
    Rng rng(seed);
    for (int i = 0; i < 40; ++i) {  // times without any law
      model.note(random_step(rng), 10 * rng.uniform(), 10 * rng.uniform(), 64 * rng.uniform());
    }
    StepShape step = random_step(rng, false);
    double before = model.step_ms(step);
    EXPECT_GE(before, 0);
    for (int i = 0; i < 50; ++i) {
      step.add_prefill(300, 10);
      EXPECT_GE(model.step_ms(step), before - 1e-12);
      before = model.step_ms(step);
    }
  }
}

TEST(StepTimeModelTest, LearnsWhatAnyPrefillAddsToAStep) {
  StepTimeModel model(kExperts);
  Rng rng(7);
  for (int i = 0; i < 600; ++i) {
    const StepShape step = random_step(rng);
    const double slower = step.prefill > 0 ? 3e-4 * step.decode_context : 0;
    model.note(step, attention_ms(step) + slower, service_ms(step), experts_of(step.rows()));
  }
  EXPECT_NEAR(model.coefficients().attention[5], 3e-4, 3e-6);
  StepShape decodes{.decodes = 4, .decode_context = 8000};
  const double unread = 0.8 * 64 - experts_of(4);
  EXPECT_NEAR(model.mixing_ms(decodes), 3e-4 * 8000 + 0.2 * unread, 0.05);
  const double alone = model.step_ms(decodes);
  decodes.add_prefill(0, 1e-9);
  EXPECT_NEAR(model.step_ms(decodes), alone + 3e-4 * 8000, 0.05);
}

TEST(StepTimeModelTest, StepsOfNoTimeSayNothing) {
  StepTimeModel model;
  for (int i = 0; i < 100; ++i)
    model.note({.prefill = 5, .decodes = 5}, 0, 0, 0);
  EXPECT_FALSE(model.fitted());
}

TEST(StepTimeModelTest, DenseModelsHaveNoService) {
  StepTimeModel model;
  Rng rng(5);
  for (int i = 0; i < 400; ++i) {
    const StepShape step = random_step(rng);
    model.note(step, attention_ms(step), 0, 0);
  }
  EXPECT_DOUBLE_EQ(model.distinct_experts(9), 0);
  const PrefillCost cost = model.prefill_cost(512);
  EXPECT_NEAR(cost.ms_per_token, 0.05 + 2.0 / 512, 1e-3);
  EXPECT_NEAR(cost.ms_per_square_token, 5e-7, 1e-8);
}

TEST(PrefillCostTest, LongPromptsCostMoreThanTheirTokens) {
  const PrefillCost cost{.ms_per_token = 0.5, .ms_per_square_token = 0.01};
  EXPECT_DOUBLE_EQ(cost.ms(0), 0);
  EXPECT_DOUBLE_EQ(cost.ms(100), 50 + 100);
}

TEST(StepTimeModelTest, UniformChoicesTouchWhatTheyShould) {
  EXPECT_DOUBLE_EQ(touched_experts({}, 5), 0);  // dense
  const ExpertShape shape{.experts = 8, .choices_per_row = 2};
  EXPECT_DOUBLE_EQ(touched_experts(shape, 0), 0);
  EXPECT_DOUBLE_EQ(touched_experts(shape, 1), 2);
  EXPECT_DOUBLE_EQ(touched_experts(shape, 2), 8 * (1 - 0.75 * 0.75));
  EXPECT_DOUBLE_EQ(touched_experts({.experts = 4, .choices_per_row = 4}, 1), 4);
}

}  // namespace
}  // namespace gimbal::policy
