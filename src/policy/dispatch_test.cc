// Hand-worked decisions of the other rules, and what holds for all of them.
#include "policy/dispatch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/random.h"

namespace gimbal::policy {
namespace {

using enum DispatchReason;

struct Load {
  double usage = 0;    // K
  double running = 0;  // R
  double waiting = 0;  // W
  double running_requests = 0;
  double waiting_requests = 0;
};

EngineView engine(const Load& load) {
  EngineView view;
  view.pages_total = 1000;
  view.pages_referenced = load.usage * 1000;
  view.running_prefill_tokens = load.running;
  view.waiting_prefill_tokens = load.waiting;
  view.waiting_best_effort_prefill_tokens = 0;
  view.running_requests = load.running_requests;
  view.waiting_requests = load.waiting_requests;
  view.budget = {.ceiling = 512};
  return view;
}

std::vector<EngineView> engines_of(const std::vector<Load>& loads) {
  std::vector<EngineView> engines;
  for (const Load& load : loads)
    engines.push_back(engine(load));
  return engines;
}

struct Outcome {
  int engine;
  DispatchReason reason;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << outcome.engine << " (" << to_string(outcome.reason) << ")";
}

struct Rule {
  explicit Rule(std::string_view name, const DispatchOptions& options = {}) {
    auto made = make_dispatch(name, options);
    EXPECT_TRUE(made.ok()) << name;
    dispatch = std::move(made).value();
  }
  Outcome operator()(const std::vector<EngineView>& engines, const DispatchRequest& request = {},
                     std::uint64_t turn = 0, std::uint64_t random = 0) {
    dispatch->choose({.request = request, .engines = engines, .turn = turn, .random = random},
                     decision);
    return {decision.engine, decision.reason};
  }
  std::unique_ptr<Dispatch> dispatch;
  DispatchDecision decision;
};

TEST(DispatchTest, V2AddsItsFourTerms) {
  Rule rule("gimbal-v2", {.batch_tokens = 1000});
  auto engines = engines_of({{0.5, 500, 1000}, {0.6, 200, 300}, {0.2, 0, 900}});
  engines[2].expert_pressure = 1.4;
  engines[0].expert_pressure = 0.8;
  engines[1].expert_pressure = 1.0;
  EXPECT_EQ(rule(engines), (Outcome{1, kBest}));
  EXPECT_NEAR(rule.decision.scores[0].score, 0.5 + 1.0 + 0.5, 1e-12);
  EXPECT_NEAR(rule.decision.scores[1].score, 0.2 + 0.3 + 0.6, 1e-12);
  EXPECT_NEAR(rule.decision.scores[2].score, 0.9 + 0.2 + 0.4, 1e-12);
  EXPECT_EQ(Rule("gimbal-v2", {.weight_waiting = 0, .batch_tokens = 1000})(engines),
            (Outcome{2, kBest}));
}

TEST(DispatchTest, V2CountsTheLedgerAsWaiting) {
  Rule rule("gimbal-v2", {.batch_tokens = 1000});
  auto engines = engines_of({{0.5, 0, 0}, {0.5, 100, 0}});
  EXPECT_EQ(rule(engines), (Outcome{0, kBest}));
  engines[0].ledger.unseen_prefill_tokens = 200;
  EXPECT_EQ(rule(engines), (Outcome{1, kBest}));
  engines[0].ledger.unseen_prefill_tokens = 100;
  engines[0].ledger.requests = 1;
  EXPECT_EQ(rule(engines), (Outcome{1, kTie}));
}

TEST(DispatchTest, V2DropsFullEnginesUnlessAllAre) {
  Rule rule("gimbal-v2", {.batch_tokens = 1000});
  EXPECT_EQ(rule(engines_of({{0.91, 0, 0}, {0.9, 9000, 9000}})), (Outcome{1, kOnly}));
  // All full: φ is 0.9 + 10·(K − 0.9), that is 1.1, 1.7 and 1.2.
  EXPECT_EQ(rule(engines_of({{0.92, 0, 200}, {0.98, 0, 0}, {0.93, 0, 0}})), (Outcome{2, kBest}));
  EXPECT_NEAR(rule.decision.scores[0].score, 1.3, 1e-9);
  EXPECT_NEAR(rule.decision.scores[1].score, 1.7, 1e-9);
}

TEST(DispatchTest, V2TakesTheMeanForWhatItDoesNotKnow) {
  Rule rule("gimbal-v2", {.batch_tokens = 1000});
  auto engines = engines_of({{0.2, 0, 400}, {0.4, 0, 0}, {0.6, 0, 800}});
  engines[1].waiting_prefill_tokens.reset();
  EXPECT_EQ(rule(engines), (Outcome{0, kBest}));
  EXPECT_NEAR(rule.decision.scores[1].score, 0.6 + 0.4, 1e-12);
}

TEST(DispatchTest, V1GoesDownItsCascade) {
  Rule rule("gimbal-v1");
  // All above 0.9: the least usage.
  EXPECT_EQ(rule(engines_of({{0.95, 0, 0}, {0.92, 9000, 0}})), (Outcome{1, kAllFull}));
  // Those above are dropped; of the others usage differs by more than 0.1: the least.
  EXPECT_EQ(rule(engines_of({{0.95, 0, 0}, {0.5, 9000, 0}, {0.7, 0, 0}})), (Outcome{1, kKvSpread}));
  // By exactly 0.1 it does not; load differs by more than 3000: the least.
  EXPECT_EQ(rule(engines_of({{0.5, 2000, 1500}, {0.6, 400, 0}})), (Outcome{1, kLoadSpread}));
  // Neither: the user's last engine, and without one the least load.
  const auto even = engines_of({{0.5, 2000, 1000}, {0.55, 100, 50}});
  EXPECT_EQ(rule(even, {.last_engine = 0}), (Outcome{0, kUser}));
  EXPECT_EQ(rule(even), (Outcome{1, kLeastLoad}));
  // A last engine that is full is no candidate.
  EXPECT_EQ(rule(engines_of({{0.95, 0, 0}, {0.5, 0, 0}, {0.5, 9, 0}}), {.last_engine = 0}),
            (Outcome{1, kLeastLoad}));
}

TEST(DispatchTest, V1CanCountContextInstead) {
  Rule rule("gimbal-v1", {.load_spread = 1000, .running_load = RunningLoad::kContext});
  // 600 and 520 pages of 16 tokens: a spread of 1280.
  EXPECT_EQ(rule(engines_of({{0.60, 0, 0}, {0.52, 900, 0}})), (Outcome{1, kLoadSpread}));
  EXPECT_EQ(rule(engines_of({{0.56, 0, 0}, {0.52, 900, 0}}), {.last_engine = 0}),
            (Outcome{0, kUser}));
}

TEST(DispatchTest, VllmWeighsItsOldCounts) {
  Rule rule("vllm");
  auto engines = engines_of({{}, {}, {}});
  engines[0].counted_waiting = 1;  // 4
  engines[1].counted_running = 3;  // 3
  engines[2].counted_waiting = 1;
  engines[2].counted_running = 1;  // 5
  EXPECT_EQ(rule(engines), (Outcome{1, kBest}));
  engines[1].counted_running = 4;
  EXPECT_EQ(rule(engines, {}, 0), (Outcome{0, kTie}));
  EXPECT_EQ(rule(engines, {}, 1), (Outcome{1, kTie}));
  EXPECT_EQ(rule(engines, {}, 2), (Outcome{0, kTie}));
}

TEST(DispatchTest, RoundRobinSkipsTheExcluded) {
  Rule rule("round-robin");
  auto engines = engines_of({{}, {}, {}});
  EXPECT_EQ(rule(engines, {}, 4), (Outcome{1, kTurn}));
  engines[1].freshness = Freshness::kExcluded;
  EXPECT_EQ(rule(engines, {}, 4), (Outcome{2, kTurn}));
  EXPECT_EQ(rule(engines, {}, 6), (Outcome{0, kTurn}));
}

TEST(DispatchTest, LeastRequestsAndPrefillCountTheLedger) {
  auto engines = engines_of({{0, 100, 50, 3, 2}, {0, 500, 0, 1, 1}});
  EXPECT_EQ(Rule("least-requests")(engines), (Outcome{1, kBest}));
  EXPECT_EQ(Rule("least-prefill")(engines), (Outcome{0, kBest}));
  engines[1].ledger.unseen_requests = 4;
  engines[0].ledger.unseen_prefill_tokens = 400;
  EXPECT_EQ(Rule("least-requests")(engines), (Outcome{0, kBest}));
  EXPECT_EQ(Rule("least-prefill")(engines), (Outcome{1, kBest}));
}

TEST(DispatchTest, LmetricMultipliesUncachedTokensAndRequests) {
  Rule rule("lmetric");
  auto engines = engines_of({{0, 0, 0, 4, 0}, {0, 0, 0, 2, 0}});
  engines[0].hit_tokens = 60;
  // 40·4 against 100·2.
  EXPECT_EQ(rule(engines, {.prompt_tokens = 100}), (Outcome{0, kBest}));
  engines[0].hit_tokens = 40;
  EXPECT_EQ(rule(engines, {.prompt_tokens = 100}), (Outcome{1, kBest}));
  EXPECT_EQ(rule.decision.scores[0].score, 240);
  // Requests that wait count like those that run.
  engines[0].hit_tokens = 60;
  engines[0].waiting_requests = 2;
  EXPECT_EQ(rule(engines, {.prompt_tokens = 100}), (Outcome{1, kBest}));
  EXPECT_EQ(rule.decision.scores[0].score, 240);
}

TEST(DispatchTest, CacheAwareBalancesFirstThenFollowsPrefixes) {
  Rule rule("cache-aware");
  auto engines = engines_of({{0, 0, 0, 100, 0}, {0, 0, 0, 40, 0}});
  engines[0].hit_tokens = 31;
  engines[0].cached_pages = 10;
  engines[1].cached_pages = 4;
  EXPECT_EQ(rule(engines, {.prompt_tokens = 100}), (Outcome{0, kPrefix}));
  EXPECT_EQ(rule(engines, {.prompt_tokens = 104}), (Outcome{1, kMostRoom}));
  engines[0].running_requests = 105;  // 65 more than the other
  EXPECT_EQ(rule(engines, {.prompt_tokens = 100}), (Outcome{1, kImbalance}));
  engines[0].running_requests = 200;  // 65 more, yet not 1.5 times
  engines[1].running_requests = 135;
  EXPECT_EQ(rule(engines, {.prompt_tokens = 100}), (Outcome{0, kPrefix}));
}

TEST(DispatchTest, RandomRulesGoByTheirNumber) {
  auto engines = engines_of({{0, 0, 0, 5, 0}, {0, 0, 0, 3, 0}, {0, 0, 0, 9, 0}});
  EXPECT_EQ(Rule("random")(engines, {}, 0, 5), (Outcome{2, kRandom}));
  Rule two("power-of-two");
  EXPECT_EQ(two(engines, {}, 0, 0), (Outcome{1, kBest}));  // of 0 and 1
  EXPECT_EQ(two(engines, {}, 0, 3), (Outcome{0, kBest}));  // of 0 and 2
  EXPECT_EQ(two(engines, {}, 0, 1), (Outcome{1, kBest}));  // of 1 and 2
  engines[1].running_requests = 5;
  EXPECT_EQ(two(engines, {}, 0, 0), (Outcome{0, kRandom}));
}

TEST(DispatchTest, AllExcludedFailsOpenToTheLeastLedger) {
  auto engines = engines_of({{}, {}, {}});
  for (EngineView& view : engines)
    view.freshness = Freshness::kExcluded;
  engines[0].ledger = {.requests = 1, .prefill_tokens = 100};
  engines[1].ledger = {.requests = 3, .prefill_tokens = 20};
  engines[2].ledger = {.requests = 2, .prefill_tokens = 20};
  for (const std::string_view name : dispatch_names())
    EXPECT_EQ(Rule(name)(engines), (Outcome{2, kFailOpen})) << name;
}

TEST(DispatchTest, OneEngineIsTakenByEveryRule) {
  for (const std::string_view name : dispatch_names())
    EXPECT_EQ(Rule(name)(engines_of({{0.99, 9, 9}})), (Outcome{0, kOnly})) << name;
}

std::optional<double> maybe(Rng& rng, double value) {
  return rng.below(6) == 0 ? std::nullopt : std::optional(value);
}

EngineView random_engine(Rng& rng) {
  EngineView view;
  view.freshness = static_cast<Freshness>(rng.below(4));
  view.age_ms = rng.uniform() * 2000;
  view.ledger = {.unseen_requests = static_cast<double>(rng.below(4)),
                 .unseen_prefill_tokens = static_cast<double>(rng.below(4000)),
                 .unseen_best_effort_prefill_tokens = static_cast<double>(rng.below(100)),
                 .unseen_pages = static_cast<double>(rng.below(100)),
                 .requests = static_cast<double>(rng.below(9)),
                 .prefill_tokens = static_cast<double>(rng.below(5000)),
                 .decodes = static_cast<double>(rng.below(9))};
  view.hit_tokens = static_cast<double>(rng.below(500));
  view.cached_pages = static_cast<double>(rng.below(500));
  view.pages_total = maybe(rng, 500);
  view.pages_referenced = maybe(rng, static_cast<double>(rng.below(501)));
  view.running_prefill_tokens = maybe(rng, static_cast<double>(rng.below(5000)));
  view.step_prefill_tokens = static_cast<double>(rng.below(2000));
  view.waiting_prefill_tokens = maybe(rng, static_cast<double>(rng.below(50'000)));
  view.waiting_best_effort_prefill_tokens = maybe(rng, static_cast<double>(rng.below(1000)));
  view.waiting_requests = maybe(rng, static_cast<double>(rng.below(50)));
  view.running_requests = maybe(rng, static_cast<double>(rng.below(50)));
  view.decodes = maybe(rng, static_cast<double>(rng.below(50)));
  view.decode_context = maybe(rng, static_cast<double>(rng.below(50'000)));
  view.residual_ms = maybe(rng, rng.uniform() * 50);
  view.expert_pressure = maybe(rng, 0.5 + rng.uniform());
  view.output_tokens = maybe(rng, static_cast<double>(rng.below(500)));
  view.pages_freed_per_ms = maybe(rng, rng.uniform());
  view.pages_evicted_per_ms = maybe(rng, rng.uniform());
  view.prefill_tokens_per_ms = maybe(rng, 10 * rng.uniform());
  view.recompute_ms = maybe(rng, 100 * rng.uniform());
  view.local_share = maybe(rng, rng.uniform());
  if (rng.below(3) > 0) {
    view.costs = StepCosts{.fitted = {.attention = {rng.uniform(), 0.1 * rng.uniform(), 0.1, 1e-5,
                                                    1e-6 * (rng.uniform() - 0.5)},
                                      .service = {rng.uniform(), 0.01, 0.001}},
                           .experts = {.experts = 512, .choices_per_row = 32},
                           .expert_ratio = 0.5 + rng.uniform() / 2};
  }
  view.budget = {.drain_steps = static_cast<double>(rng.below(10)),
                 .floor = static_cast<double>(rng.below(100)),
                 .ceiling = 1 + static_cast<double>(rng.below(2000))};
  return view;
}

TEST(DispatchTest, NoRuleOfOursTakesAFullEngineWhileAnotherIsNot) {
  Rng rng(3);
  std::vector<Rule> rules;
  for (const std::string_view name : dispatch_names())
    rules.emplace_back(name);
  int full_left = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<EngineView> engines;
    const std::uint64_t count = 1 + rng.below(6);
    for (std::uint64_t i = 0; i < count; ++i) {
      engines.push_back(random_engine(rng));
      engines.back().group = static_cast<int>(i / 2);
    }
    DispatchRequest request{.prompt_tokens = 1 + static_cast<double>(rng.below(4000)),
                            .prompt_pages = 1 + static_cast<double>(rng.below(250)),
                            .best_effort = rng.below(2) == 0};
    if (rng.below(2) == 0) request.last_engine = static_cast<int>(rng.below(count));
    if (rng.below(2) == 0) request.mean_return_ms = 1000 * rng.uniform();
    for (std::size_t r = 0; r < rules.size(); ++r) {
      const Outcome outcome = rules[r](engines, request, rng(), rng());
      ASSERT_GE(outcome.engine, 0);
      ASSERT_LT(outcome.engine, static_cast<int>(count));
      for (const EngineScore& score : rules[r].decision.scores)
        ASSERT_TRUE(std::isfinite(score.score));
      const auto& taken = engines[static_cast<std::size_t>(outcome.engine)];
      const bool open = outcome.reason == kFailOpen;
      ASSERT_TRUE(open || taken.freshness != Freshness::kExcluded);
      if (r > 2 || taken.kv_usage().value_or(0) <= 0.9) continue;
      ++full_left;
      for (const EngineView& other : engines) {
        if (!open && other.freshness == Freshness::kExcluded) continue;
        ASSERT_GT(other.kv_usage().value_or(0), 0.9) << dispatch_names()[r];
      }
    }
  }
  EXPECT_GT(full_left, 100);
}

TEST(DispatchTest, NamesAndReasonsAreDistinct) {
  std::set<std::string_view> reasons;
  for (int i = 0; i < kDispatchReasons; ++i)
    reasons.insert(to_string(static_cast<DispatchReason>(i)));
  EXPECT_EQ(reasons.size(), static_cast<std::size_t>(kDispatchReasons));
  EXPECT_EQ(dispatch_names().size(), 11U);
}

TEST(DispatchTest, UnknownNamesAndOptionsOutOfRangeAreErrors) {
  EXPECT_EQ(make_dispatch("sticky", {}).error().field, "dispatch");
  EXPECT_EQ(make_dispatch("gimbal", {.kv_limit = 0}).error().field, "kv_limit");
  EXPECT_EQ(make_dispatch("gimbal", {.lambda = -1}).error().field, "lambda");
  EXPECT_EQ(make_dispatch("gimbal", {.omega = std::nan("")}).error().field, "omega");
  EXPECT_EQ(make_dispatch("vllm", {.tie_ms = INFINITY}).error().field, "tie_ms");
  EXPECT_EQ(make_dispatch("gimbal-v2", {.batch_tokens = 0}).error().field, "batch_tokens");
  const auto error = make_dispatch("cache-aware", {.cache_threshold = 1.5}).error();
  EXPECT_EQ(error.message, "cache_threshold must be at least 0 and at most 1, is 1.5");
}

}  // namespace
}  // namespace gimbal::policy
