// Hand-worked decisions of the rule `gimbal`.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "policy/dispatch.h"

namespace gimbal::policy {
namespace {

enum Part : std::size_t { kTtft, kDecode, kOthers, kFull, kValue };

std::unique_ptr<Dispatch> gimbal_rule(const DispatchOptions& options = {}) {
  auto made = make_dispatch("gimbal", options);
  EXPECT_TRUE(made.ok());
  return std::move(made).value();
}

// A step takes 1 ms + 0.1 a prefill row + 0.05 a decode; 100 rows a step; 1000 pages.
EngineView engine() {
  EngineView view;
  view.pages_total = 1000;
  view.pages_referenced = 0;
  view.running_prefill_tokens = 0;
  view.waiting_prefill_tokens = 0;
  view.waiting_best_effort_prefill_tokens = 0;
  view.waiting_requests = 0;
  view.running_requests = 0;
  view.decodes = 0;
  view.decode_context = 0;
  view.residual_ms = 0;
  view.output_tokens = 50;
  view.costs = StepCosts{.fitted = {.attention = {1.0, 0.1, 0.05, 0, 0}}};
  view.budget = {.ceiling = 100};
  return view;
}

EngineView prefilling() {
  EngineView view = engine();
  view.running_prefill_tokens = 200;
  view.waiting_prefill_tokens = 100;
  view.running_requests = 2;
  view.waiting_requests = 1;
  return view;
}

EngineView decoding() {
  EngineView view = engine();
  view.decodes = 10;
  view.running_requests = 10;
  return view;
}

DispatchDecision choose(const Dispatch& rule, const std::vector<EngineView>& engines,
                        DispatchRequest request = {.prompt_tokens = 100, .prompt_pages = 7},
                        std::uint64_t random = 0) {
  DispatchDecision decision;
  rule.choose({.request = request, .engines = engines, .turn = 0, .random = random}, decision);
  return decision;
}

TEST(DispatchGimbalTest, WhatTheRunningStepComputesIsInTheResidualAlone) {
  // 200 of its 200 running tokens end with the step, in 21 ms; the 100 that wait run after it.
  std::vector<EngineView> engines{prefilling(), engine()};
  engines[0].step_prefill_tokens = 200;
  engines[0].residual_ms = 21;
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kTtft], 21 + 2 * 1 + 20);
  EXPECT_DOUBLE_EQ(decision.scores[1].parts[kTtft], 1 + 10);
}

TEST(DispatchGimbalTest, AStepWhoseEndIsNotKnownCountsAsAhead) {
  std::vector<EngineView> engines{prefilling(), engine()};
  engines[0].step_prefill_tokens = 200;
  engines[0].residual_ms.reset();
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kTtft], 44);  // as without a running step
}

TEST(DispatchGimbalTest, RanksThatStepTogetherGetTheNextStepsPromptsInTurn) {
  // Rank 0 computes a long prompt in the step that both are in. When it ends neither has prefill,
  // so the next prompts are shared out evenly: they step together again.
  std::vector<EngineView> engines{engine(), engine()};
  for (EngineView& view : engines) {
    view.group = 0;
    view.running_requests = 1;
    view.residual_ms = 40;
  }
  engines[0].running_prefill_tokens = 400;
  engines[0].step_prefill_tokens = 400;
  std::array<int, 2> sent{};
  for (int i = 0; i < 4; ++i) {
    const int chosen = choose(*gimbal_rule(), engines).engine;
    ++sent[static_cast<std::size_t>(chosen)];
    LedgerCounts& ledger = engines[static_cast<std::size_t>(chosen)].ledger;
    ledger.unseen_prefill_tokens += 100;
    ledger.unseen_requests += 1;
    ledger.prefill_tokens += 100;
    ledger.requests += 1;
  }
  EXPECT_EQ(sent[0], 2);
  EXPECT_EQ(sent[1], 2);
}

TEST(DispatchGimbalTest, WeighsTtftDecodesAndOthers) {
  const std::vector<EngineView> engines{prefilling(), decoding()};
  const auto decision = choose(*gimbal_rule(), engines);
  // 0: 300 ahead and 100: 4 steps of 100 rows. Others: 44 − 33 ms for three requests.
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kTtft], 44);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kDecode], 0);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kOthers], 0.25 * 11 * 3);
  // 1: two steps of at most 90 rows beside ten decodes; a decode step takes 1.55 against 1.05.
  EXPECT_DOUBLE_EQ(decision.scores[1].parts[kTtft], 2 * 1.5 + 10);
  EXPECT_NEAR(decision.scores[1].parts[kDecode], 0.5 * 50 * 0.5, 1e-9);
  EXPECT_DOUBLE_EQ(decision.scores[1].parts[kOthers], 0.25 * 13 * 10);
  EXPECT_NEAR(decision.scores[0].score, 52.25, 1e-9);
  EXPECT_NEAR(decision.scores[1].score, 58, 1e-9);
  EXPECT_EQ(decision.engine, 0);
  EXPECT_EQ(decision.reason, DispatchReason::kBest);

  EXPECT_EQ(choose(*gimbal_rule({.omega = 0}), engines).engine, 1);
}

TEST(DispatchGimbalTest, WithoutLambdaOrOutputLengthsDecodesDoNotCount) {
  std::vector<EngineView> engines{prefilling(), decoding()};
  auto decision = choose(*gimbal_rule({.lambda = 0, .omega = 0}), engines);
  EXPECT_DOUBLE_EQ(decision.scores[1].score, 13);
  EXPECT_DOUBLE_EQ(decision.scores[0].score, 44);
  for (EngineView& view : engines)
    view.output_tokens.reset();
  decision = choose(*gimbal_rule({.lambda = 9, .omega = 0}), engines);
  EXPECT_DOUBLE_EQ(decision.scores[1].score, 13);
  // Known of one engine, it holds for the other too.
  engines[0].output_tokens = 100;
  decision = choose(*gimbal_rule({.lambda = 1, .omega = 0}), engines);
  EXPECT_NEAR(decision.scores[1].score, 13 + 100 * 0.5, 1e-9);
}

TEST(DispatchGimbalTest, LongAnswersOfTheLastRequestsDoNotSpeakAgainstAnEngine) {
  std::vector<EngineView> engines{decoding(), decoding(), engine()};
  engines[0].output_tokens = 10;
  engines[1].output_tokens = 190;
  engines[2].output_tokens = 100;
  const auto decision = choose(*gimbal_rule({.lambda = 1, .omega = 0}), engines);
  EXPECT_NEAR(decision.scores[0].parts[kDecode], 100 * 0.5, 1e-9);
  EXPECT_NEAR(decision.scores[1].parts[kDecode], 100 * 0.5, 1e-9);
}

TEST(DispatchGimbalTest, ResidualAndHitsShortenTheWait) {
  std::vector<EngineView> engines{engine(), engine()};
  engines[0].residual_ms = 4;
  engines[1].hit_tokens = 80;
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kTtft], 4 + 1 + 10);
  EXPECT_DOUBLE_EQ(decision.scores[1].parts[kTtft], 1 + 2);
  EXPECT_EQ(decision.engine, 1);
  // A prompt that is all there still computes its last token.
  engines[1].hit_tokens = 100;
  EXPECT_DOUBLE_EQ(choose(*gimbal_rule(), engines).scores[1].parts[kTtft], 1.1);
}

TEST(DispatchGimbalTest, BestEffortWaitsForAllAndLatencySensitiveForItsOwn) {
  EngineView view = engine();
  view.waiting_prefill_tokens = 300;
  view.waiting_best_effort_prefill_tokens = 200;
  const std::vector<EngineView> engines{view, engine()};
  DispatchRequest request{.prompt_tokens = 100, .prompt_pages = 7};
  EXPECT_DOUBLE_EQ(choose(*gimbal_rule(), engines, request).scores[0].parts[kTtft], 2 + 20);
  request.best_effort = true;
  EXPECT_DOUBLE_EQ(choose(*gimbal_rule(), engines, request).scores[0].parts[kTtft], 4 + 40);
}

TEST(DispatchGimbalTest, TheOrderOfTheQueueSaysWhatIsAhead) {
  EngineView view = prefilling();  // 200 run, 100 wait
  view.waiting_ahead_tokens = 40;
  view.ledger.unseen_prefill_tokens = 60;
  const std::vector<EngineView> engines{view, engine()};
  // 200 + 40 + 60 ahead, and 100: four steps. All of 460 to drain: five steps, 100 less before.
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kTtft], 4 + 40);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kOthers], 0.25 * ((5 + 46) - (4 + 36)) * 3);
}

TEST(DispatchGimbalTest, PagesThatAreMissingAreWaitedFor) {
  EngineView full = engine();
  full.pages_referenced = 880;
  full.pages_freed_per_ms = 0.5;
  const std::vector<EngineView> engines{full, engine()};
  const DispatchRequest request{.prompt_tokens = 100, .prompt_pages = 130};
  auto decision = choose(*gimbal_rule({.omega = 0}), engines, request);
  // 10 pages are missing. 880 pages are held for 50 tokens of 1.05 ms each: 16.76 a ms.
  const double wait = 10 / (880 / (50 * 1.05));
  EXPECT_NEAR(decision.scores[0].parts[kTtft], 11 + wait, 1e-9);
  // 0.88 + 0.13 is 0.11 above the limit; a recompute costs a full step of 11 ms.
  EXPECT_NEAR(decision.scores[0].parts[kFull], 11 * 0.11 / 0.1, 1e-9);
  EXPECT_EQ(decision.engine, 1);
  std::vector<EngineView> faster = engines;
  faster[0].pages_freed_per_ms = 40;
  faster[0].recompute_ms = 3;
  decision = choose(*gimbal_rule({.omega = 0}), faster, request);
  EXPECT_NEAR(decision.scores[0].parts[kTtft], 11 + 10.0 / 40, 1e-9);
  EXPECT_NEAR(decision.scores[0].parts[kFull], 3 * 0.11 / 0.1, 1e-9);
}

TEST(DispatchGimbalTest, StayingIsWorthWhatWillBeReused) {
  std::vector<EngineView> engines{engine(), engine()};
  engines[0].pages_evicted_per_ms = 0.0;
  engines[1].pages_evicted_per_ms = 2.0;
  const DispatchRequest request{.prompt_tokens = 1000,
                                .prompt_pages = 63,
                                .return_probability = 0.8,
                                .mean_return_ms = 500.0};
  const auto decision = choose(*gimbal_rule(), engines, request);
  EXPECT_NEAR(decision.scores[0].parts[kValue], -0.8 * 1050 * 0.1, 1e-9);
  EXPECT_NEAR(decision.scores[1].parts[kValue], -0.8 * 1050 * 0.1 * (1 - std::exp(-1.0)), 1e-9);
  EXPECT_EQ(decision.engine, 0);
}

TEST(DispatchGimbalTest, ASlowEngineIsNotWorthMore) {
  std::vector<EngineView> engines{engine(), engine()};
  engines[0].costs->fitted.attention[1] = 0.3;
  engines[0].output_tokens = 150;
  const DispatchRequest request{.prompt_tokens = 1000,
                                .prompt_pages = 63,
                                .return_probability = 0.5,
                                .mean_return_ms = 500.0};
  const auto decision = choose(*gimbal_rule(), engines, request);
  EXPECT_NEAR(decision.scores[0].parts[kValue], -0.5 * 1100 * 0.2, 1e-9);
  EXPECT_NEAR(decision.scores[1].parts[kValue], -0.5 * 1100 * 0.2, 1e-9);
  EXPECT_EQ(decision.engine, 1);
}

TEST(DispatchGimbalTest, LocalExpertsAreWorthTheExchange) {
  std::vector<EngineView> engines{engine(), engine()};
  engines[0].local_share = 0.2;
  engines[1].local_share = 0.6;
  const auto decision = choose(*gimbal_rule({.exchange_ms_per_token = 1.5}), engines);
  EXPECT_NEAR(decision.scores[0].parts[kValue], 50 * 1.5 * 0.2, 1e-9);
  EXPECT_NEAR(decision.scores[1].parts[kValue], -50 * 1.5 * 0.2, 1e-9);
  EXPECT_EQ(decision.engine, 1);
}

TEST(DispatchGimbalTest, ExpertPressureLengthensService) {
  std::vector<EngineView> engines{engine(), engine()};
  for (EngineView& view : engines)
    view.costs->fitted.service = {10, 0, 0};
  engines[0].expert_pressure = 2.0;
  engines[1].expert_pressure = 1.0;
  const auto decision = choose(*gimbal_rule({.lambda = 0, .omega = 0}), engines);
  EXPECT_DOUBLE_EQ(decision.scores[0].score, 1 + 10 + 2 * 10);
  EXPECT_DOUBLE_EQ(decision.scores[1].score, 1 + 10 + 10);
}

TEST(DispatchGimbalTest, WithinTheBandTheLedgerDecidesAndThenChance) {
  std::vector<EngineView> engines{engine(), engine(), engine()};
  engines[0].residual_ms = 0;
  engines[1].residual_ms = 4.9;  // δ is 5 ms
  engines[2].residual_ms = 5.1;
  engines[0].ledger = {.requests = 1, .prefill_tokens = 10};
  engines[2].ledger = {};
  auto decision = choose(*gimbal_rule(), engines);
  EXPECT_EQ(decision.engine, 1);
  EXPECT_EQ(decision.reason, DispatchReason::kTie);
  engines[0].ledger = {};
  decision = choose(*gimbal_rule(), engines, {.prompt_tokens = 100}, 4);
  EXPECT_EQ(decision.engine, 0);
  EXPECT_EQ(decision.reason, DispatchReason::kTieRandom);
  EXPECT_EQ(choose(*gimbal_rule(), engines, {.prompt_tokens = 100}, 7).engine, 1);
}

TEST(DispatchGimbalTest, ABandIsAFractionOfLongWaits) {
  std::vector<EngineView> engines{engine(), engine()};
  for (EngineView& view : engines)
    view.residual_ms = 1000;
  engines[1].residual_ms = 1025;
  engines[0].ledger.requests = 1;
  EXPECT_EQ(choose(*gimbal_rule(), engines).engine, 1);
  EXPECT_EQ(choose(*gimbal_rule({.tie_fraction = 0.01}), engines).engine, 0);
}

TEST(DispatchGimbalTest, AStaleQueueHasDrained) {
  std::vector<EngineView> engines{prefilling(), engine()};
  engines[0].freshness = Freshness::kStale;
  engines[0].age_ms = 25;
  engines[0].prefill_tokens_per_ms = 10;
  // 250 of 200 + 100 are gone; the ledger's 40 are not.
  engines[0].ledger.unseen_prefill_tokens = 40;
  EXPECT_DOUBLE_EQ(choose(*gimbal_rule(), engines).scores[0].parts[kTtft], 2 + 19);
}

TEST(DispatchGimbalTest, WithTheLedgerOnlySnapshotsDoNotCount) {
  std::vector<EngineView> engines{prefilling(), decoding()};
  engines[0].freshness = Freshness::kLedgerOnly;
  engines[0].ledger.prefill_tokens = 60;
  engines[0].ledger.decodes = 2;
  engines[0].pages_referenced = 1000;  // not to be believed
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_DOUBLE_EQ(decision.scores[0].parts[kTtft], 2 * 1.1 + 16);
  EXPECT_TRUE(decision.scores[0].candidate);
}

TEST(DispatchGimbalTest, NothingKnownIsNoAdvantage) {
  std::vector<EngineView> engines{prefilling(), EngineView{}};
  engines[1].budget = engines[0].budget;
  engines[1].ledger.requests = 1;
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_NEAR(decision.scores[1].score, decision.scores[0].score, 1e-9);
  EXPECT_EQ(decision.engine, 0);  // the ledger decides
  // And of nobody anything: the first costs stand in.
  const auto blind = choose(*gimbal_rule(), {EngineView{}, EngineView{}});
  EXPECT_DOUBLE_EQ(blind.scores[0].score, blind.scores[1].score);
  EXPECT_GT(blind.scores[0].score, 0);
}

TEST(DispatchGimbalTest, OfManyEnginesThoseWithTheLeastWorkAreScored) {
  std::vector<EngineView> engines;
  for (int i = 0; i < 9; ++i) {
    engines.push_back(prefilling());
    engines.back().waiting_prefill_tokens = 1000.0 * (9 - i);
    engines.back().group = i / 3;
  }
  engines[1].waiting_prefill_tokens.reset();  // the mean of the others: 4875
  engines[2].running_prefill_tokens = 0;
  engines[2].waiting_prefill_tokens = 20;
  const auto decision = choose(*gimbal_rule({.shortlist = 5}), engines);
  std::string candidates;
  for (const EngineScore& score : decision.scores)
    candidates += score.candidate ? '1' : '0';
  EXPECT_EQ(candidates, "111000110");  // the groups of 2 and 8, cut in order
  EXPECT_EQ(decision.engine, choose(*gimbal_rule(), engines).engine);
}

TEST(DispatchGimbalTest, TheShortlistPrefersEmptyGroupsToThoseWithAnIdleRank) {
  std::vector<EngineView> engines(6, engine());
  for (std::size_t i = 0; i < engines.size(); ++i)
    engines[i].group = static_cast<int>(i / 2);
  for (const std::size_t busy : {0, 2}) {  // group 2 has no request
    engines[busy] = decoding();
    engines[busy].group = engines[busy + 1].group;
    engines[busy].residual_ms = 1;
  }
  const auto decision = choose(*gimbal_rule({.shortlist = 2}), engines);
  EXPECT_TRUE(decision.scores[4].candidate && decision.scores[5].candidate);
  EXPECT_GE(decision.engine, 4);
}

TEST(DispatchGimbalTest, TheShortlistTakesIdleEnginesThatHaveFittedNothing) {
  std::vector<EngineView> engines(4, engine());
  for (std::size_t i = 0; i < engines.size(); ++i)
    engines[i].group = static_cast<int>(i);
  for (const std::size_t busy : {0, 1}) {
    engines[busy].costs->fitted.attention[1] = 0.001;
    engines[busy].residual_ms = 3;
  }
  for (const std::size_t idle : {2, 3})
    engines[idle].costs.reset();  // and the first costs say 0.1 ms a token
  // What nobody on the list knows, the others do: what steps cost, and how long answers get.
  engines[2].decodes = 0;
  engines[3].decodes = 10;
  for (const std::size_t idle : {2, 3})
    engines[idle].output_tokens.reset();
  const auto decision = choose(*gimbal_rule({.lambda = 1, .omega = 0, .shortlist = 2}), engines);
  EXPECT_TRUE(decision.scores[2].candidate && decision.scores[3].candidate);
  EXPECT_NEAR(decision.scores[2].parts[kTtft], 1 + 100 * 0.001, 1e-9);
  EXPECT_NEAR(decision.scores[3].parts[kDecode], 50 * 10 * 0.05, 1e-9);
}

TEST(DispatchGimbalTest, EnginesOfAGroupPaceEachOther) {
  std::vector<EngineView> engines{prefilling(), engine(), engine()};
  engines[0].group = engines[1].group = 0;
  engines[2].residual_ms = 20;
  // In the group of 0, whose steps take 11 ms anyway, the prompt adds no time for others on 1.
  const auto decision = choose(*gimbal_rule(), engines);
  EXPECT_DOUBLE_EQ(decision.scores[1].parts[kTtft], 11);
  EXPECT_DOUBLE_EQ(decision.scores[1].parts[kOthers], 0);
  EXPECT_EQ(decision.engine, 1);
}

}  // namespace
}  // namespace gimbal::policy
