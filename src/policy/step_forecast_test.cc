#include "policy/step_forecast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace gimbal::policy {
namespace {

// 1 ms a step, 0.1 ms a prefill row, 0.05 ms a decode.
StepCosts plain_costs() {
  return {.fitted = {.attention = {1.0, 0.1, 0.05, 0, 0}, .service = {}}, .experts = {}};
}

RankLoad rank(double backlog, double decodes, PrefillBudget budget) {
  return {.costs = plain_costs(), .budget = budget, .backlog = backlog, .decodes = decodes};
}

GroupForecast forecast_of(const std::vector<RankLoad>& ranks) {
  GroupForecast forecast;
  forecast.reset(ranks);
  return forecast;
}

TEST(StepForecastTest, AnIdleRankTakesWholeSteps) {
  const auto forecast = forecast_of({rank(0, 0, {.ceiling = 100})});
  EXPECT_DOUBLE_EQ(forecast.drain_ms(), 0);
  EXPECT_DOUBLE_EQ(forecast.finish_ms(0, {.tokens = 50}), 1 + 5);
  EXPECT_DOUBLE_EQ(forecast.finish_ms(0, {.tokens = 250}), 3 + 25);
}

TEST(StepForecastTest, WhatIsAheadRunsFirstAndWhatIsBehindDoesNotMatter) {
  const auto forecast = forecast_of({rank(300, 0, {.ceiling = 100})});
  EXPECT_DOUBLE_EQ(forecast.finish_ms(0, {.ahead = 150, .tokens = 50}), 2 + 20);
  EXPECT_DOUBLE_EQ(forecast.finish_ms(0, {.ahead = 300, .tokens = 50}), 4 + 35);
  EXPECT_DOUBLE_EQ(forecast.drain_ms(), 3 + 30);
  EXPECT_DOUBLE_EQ(forecast.drain_with_ms(0, {.ahead = 150, .tokens = 50}), 4 + 35);
}

TEST(StepForecastTest, ABacklogOverKStepsShrinksGeometrically) {
  // k = 2, floor 10, ceiling 104 with 4 decodes: of 200 tokens 100, 50, 25, 12.5 and 10 run, then
  // 2.5 are left.
  const auto forecast =
      forecast_of({rank(200, 4, {.drain_steps = 2, .floor = 10, .ceiling = 104})});
  EXPECT_DOUBLE_EQ(forecast.drain_ms(), 6 * 1.2 + 20);
  // The first 150 of 200 and 8 more: 104, 52, 26 of 208.
  EXPECT_NEAR(forecast.finish_ms(0, {.ahead = 150, .tokens = 8}), 3 * 1.2 + 15.8, 1e-9);
}

TEST(StepForecastTest, ContextAndPressureCost) {
  RankLoad load = rank(0, 0, {.ceiling = 100});
  load.costs.fitted.attention[4] = 0.001;
  load.costs.fitted.service = {2.0, 0.01, 0};
  load.pressure = 1.5;
  const auto forecast = forecast_of({load});
  // 10 rows from position 90 on attend to 10·90 + 55 tokens.
  EXPECT_NEAR(forecast.finish_ms(0, {.tokens = 10, .position = 90}),
              1 + 1 + 0.955 + 1.5 * (2 + 0.1), 1e-9);
}

TEST(StepForecastTest, DecodesBesidePrefillCostMore) {
  RankLoad load = rank(20, 2, {.drain_steps = 1, .ceiling = 22});
  load.decode_context = 100;
  load.costs.fitted.attention[5] = 0.03;
  const StepShape mixed{.prefill = 20, .decodes = 2, .decode_context = 100};
  EXPECT_NEAR(load.costs.step_ms(mixed, 1), 1 + 2 + 0.1 + 3, 1e-12);
  EXPECT_NEAR(load.costs.step_ms({.decodes = 2, .decode_context = 100}, 1), 1.1, 1e-12);
  const auto forecast = forecast_of({load});
  EXPECT_NEAR(forecast.drain_ms(), 1 + 2 + 0.1 + 3, 1e-9);
  EXPECT_NEAR(forecast.decode_step_ms(0, 0), 1.15, 1e-12);
}

TEST(StepForecastTest, DistinctExpertsSaturate) {
  RankLoad load = rank(0, 2, {.ceiling = 100});
  load.costs.fitted = {.attention = {}, .service = {0, 0, 1.0}};
  load.costs.experts = {.experts = 8, .choices_per_row = 4};
  load.costs.expert_ratio = 0.5;
  const auto forecast = forecast_of({load});
  EXPECT_NEAR(forecast.decode_step_ms(0, 5), 0.5 * 8 * (1 - 0.125), 1e-12);
  EXPECT_NEAR(forecast.finish_ms(0, {.tokens = 1}), 0.5 * 8 * (1 - 0.125), 1e-12);
  EXPECT_NEAR(forecast.full_step_ms(0), 4, 1e-12);
}

TEST(StepForecastTest, RanksOfAGroupPaceEachOther) {
  // Rank 0 prefills 300 in three steps of 11 ms; rank 1 only decodes.
  const auto forecast =
      forecast_of({rank(300, 0, {.ceiling = 100}), rank(0, 20, {.ceiling = 120})});
  EXPECT_DOUBLE_EQ(forecast.drain_ms(), 33);
  // On rank 1 a prompt of 80 rides in the first of those; there it adds nothing to the drain.
  EXPECT_DOUBLE_EQ(forecast.finish_ms(1, {.tokens = 80}), 11);
  EXPECT_DOUBLE_EQ(forecast.drain_with_ms(1, {.tokens = 80}), 33);
  // On rank 0 it waits for the others there, and makes the group drain later.
  EXPECT_DOUBLE_EQ(forecast.finish_ms(0, {.ahead = 300, .tokens = 80}), 4 + 38);
  EXPECT_DOUBLE_EQ(forecast.drain_with_ms(0, {.ahead = 300, .tokens = 80}), 4 + 38);
}

// Steps one rank forward, one step at a time.
double stepped(const RankLoad& load, double tokens, double more) {
  const double ceiling = std::max(1.0, load.budget.ceiling - load.decodes);
  const bool all = load.decodes == 0 || load.budget.drain_steps <= 1;
  double left = load.backlog + more;
  double done = 0;
  double ms = 0;
  while (done < tokens - 1e-6) {
    const double rows =
        std::min(left, all ? ceiling
                           : std::clamp(left / load.budget.drain_steps,
                                        std::min(load.budget.floor, ceiling), ceiling));
    const auto& a = load.costs.fitted.attention;
    ms += a[0] + a[1] * rows + a[2] * load.decodes;
    left -= rows;
    done += rows;
  }
  return ms;
}

TEST(StepForecastTest, IsWhatSteppingOneByOneGives) {
  Rng rng(7);
  for (int round = 0; round < 2000; ++round) {
    const double decodes = static_cast<double>(rng.below(40));
    const auto load = rank(static_cast<double>(rng.below(20'000)), decodes,
                           {.drain_steps = static_cast<double>(rng.below(12)),
                            .floor = 16.0 + static_cast<double>(rng.below(100)),
                            .ceiling = 200.0 + static_cast<double>(rng.below(1000))});
    const auto forecast = forecast_of({load});
    const double ahead = load.backlog * rng.uniform();
    const double tokens = 1 + static_cast<double>(rng.below(3000));
    // The rows of a step that ends beyond the work count in the one and not in the other.
    const double tail = plain_costs().fitted.attention[1] * load.budget.ceiling;
    const double naive = stepped(load, ahead + tokens, tokens);
    const double said = forecast.finish_ms(0, {.ahead = ahead, .tokens = tokens});
    EXPECT_LE(said, naive + 1e-6) << round;
    EXPECT_GE(said, naive - tail - 1e-6) << round;
    EXPECT_NEAR(forecast.drain_ms(), stepped(load, load.backlog, 0),
                1e-6 * forecast.drain_ms() + 1e-6)
        << round;
  }
}

TEST(StepForecastTest, GroupsDrainLikeTheirSteps) {
  Rng rng(11);
  for (int round = 0; round < 500; ++round) {
    std::vector<RankLoad> ranks;
    for (int i = 0; i < 3; ++i) {
      ranks.push_back(rank(static_cast<double>(rng.below(6000)), static_cast<double>(rng.below(9)),
                           {.drain_steps = 8, .floor = 64, .ceiling = 512}));
    }
    const auto forecast = forecast_of(ranks);
    double slowest_alone = 0;
    double all_alone = 0;
    for (const RankLoad& each : ranks) {
      const double alone = forecast_of({each}).drain_ms();
      slowest_alone = std::max(slowest_alone, alone);
      all_alone += alone;
    }
    EXPECT_GE(forecast.drain_ms(), slowest_alone * 0.99);
    EXPECT_LE(forecast.drain_ms(), all_alone * (1 + 1e-9) + 10);
    for (int i = 0; i < 3; ++i) {
      const ForecastWork work{.ahead = 0, .tokens = 100};
      EXPECT_GE(forecast.drain_with_ms(i, work), forecast.drain_ms() * (1 - 0.05)) << round;
    }
  }
}

}  // namespace
}  // namespace gimbal::policy
