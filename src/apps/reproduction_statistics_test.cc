#include "apps/reproduction_statistics.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

namespace gimbal::apps {
namespace {

using Metric = PaperClaim::Metric;

// A baseline at 100 in all, and a system at these changes in percent, one a seed. Three seeds have
// the 2.5th and 97.5th percentile of resampled means at the least and the greatest: each is drawn
// three times in 1 of 27 resamples.
Verdict verdict_on(Metric metric, double claimed, std::initializer_list<double> changes,
                   std::size_t late = 0) {
  const Reproduction plan{.name = "test",
                          .title = "A test",
                          .place = "Simulated",
                          .systems = {{"old", {}, true}, {"new", {}, false}}};
  ReproductionResult result{.seeds = {}, .cells = {{.workload = "w", .load = 0.9}}};
  auto& runs = result.cells[0].runs;
  for (const double change : changes) {
    result.seeds.push_back(result.seeds.size());
    RunNumbers run{.mean_ttft_ms = 100, .mean_tpot_ms = 100, .request_throughput = 100};
    runs["old"].push_back(run);
    run.*field_of(metric) += change;
    run.valid = result.seeds.size() > late;
    runs["new"].push_back(run);
    runs["old"].back().valid = run.valid;
  }
  return judge(plan, result,
               {.text = "a claim",
                .label = "P",
                .system = "new",
                .metric = metric,
                .over = PaperClaim::Over::kMean,
                .change = claimed});
}

// One cell of each workload at this load, with the shares that a baseline and a system find cached.
struct Hits {
  std::string workload;
  double load = 0;
  double old_share = 0;
  double new_share = 0;
};
Verdict verdict_on_hits(const std::vector<Hits>& cells, const std::string& of_workload) {
  Reproduction plan{.name = "test",
                    .title = "A test",
                    .place = "Simulated",
                    .systems = {{"old", {}, true}, {"new", {}, false}}};
  plan.claims = {
      {"hits +10 %", "P", "new", Metric::kPrefixHits, PaperClaim::Over::kMean, 0.1, 0.5, "turns"},
      {"all others +10 %", "P", "new", Metric::kPrefixHits, PaperClaim::Over::kMean, 0.1, 0.5}};
  ReproductionResult result{.seeds = {1, 2}, .cells = {}};
  for (const Hits& hits : cells) {
    result.cells.push_back({.workload = hits.workload, .load = hits.load});
    result.cells.back().runs["old"].assign(2, {.cached_share = hits.old_share});
    result.cells.back().runs["new"].assign(2, {.cached_share = hits.new_share});
  }
  return judge(plan, result, plan.claims[of_workload == "turns" ? 0 : 1]);
}

Outcome outcome_on(Metric metric, double claimed, std::initializer_list<double> changes) {
  return verdict_on(metric, claimed, changes).outcome;
}

TEST(ReproductionStatisticsTest, IntervalsOfThreeSeedsReachFromTheLeastToTheGreatest) {
  const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {-30, -20, -10});
  EXPECT_NEAR(verdict.found.estimate, -0.2, 1e-9);
  EXPECT_NEAR(verdict.found.low, -0.3, 1e-9);
  EXPECT_NEAR(verdict.found.high, -0.1, 1e-9);
  EXPECT_EQ(verdict.cells, 1U);
}

TEST(ReproductionStatisticsTest, ReproducedIsAsMuchAsClaimedAndNotNothing) {
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-30, -20, -10}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-50, -40, -30}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {1, 3, 5}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {-5, -3, -1}), Outcome::kNotReproduced);
}

TEST(ReproductionStatisticsTest, WithinAPercentOfTheClaimIsAsMuch) {
  EXPECT_EQ(outcome_on(Metric::kTpot, -0.2, {-19.01, -19.01, -19.01}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kTpot, -0.2, {-18.99, -18.99, -18.99}), Outcome::kNotReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {2.01, 2.01, 2.01}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {1.99, 1.99, 1.99}), Outcome::kNotReproduced);
}

TEST(ReproductionStatisticsTest, UndecidedHoldsNoChangeAndTheClaim) {
  const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {-21, -6, 3});
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_EQ(verdict.why, "the interval holds no change and the claim");
  // As much as claimed, and nothing too.
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-61, -6, 3}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {-4, 0, 4}), Outcome::kUndecided);
  // In the wrong direction by the estimate.
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-21, 30, 40}), Outcome::kUndecided);
}

TEST(ReproductionStatisticsTest, BordersOfTheIntervalBelongToIt) {
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-50, -40, 0}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-50, -40, -0.01}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-19.01, -6, 3}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-18.99, -6, 3}), Outcome::kNotReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {0, 0, 2.01}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0.03, {0, 0, 1.99}), Outcome::kNotReproduced);
}

TEST(ReproductionStatisticsTest, NotReproducedIsWhatTheIntervalRulesOut) {
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-3, -2, -1}), Outcome::kNotReproduced);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-3, 0, 3}), Outcome::kNotReproduced);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {10, 20, 30}), Outcome::kNotReproduced);
  // Something, by less than claimed.
  const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {-25, -15, -5});
  EXPECT_EQ(verdict.outcome, Outcome::kNotReproduced);
  EXPECT_EQ(verdict.why, "");
}

TEST(ReproductionStatisticsTest, AClaimOfNoChangeNeedsTheEstimateOnly) {
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-2, 0, 2}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {3, 4, 5}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-9, -3, 3}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-9, -6, -3}), Outcome::kNotReproduced);
}

TEST(ReproductionStatisticsTest, AClaimOfAWorkloadIsJudgedThereAndOthersElsewhere) {
  const std::vector<Hits> cells = {
      {"turns", 0.4, 0.5, 0.9}, {"turns", 0.9, 0.5, 0.6}, {"plain", 0.9, 0.5, 0.5}};
  const Verdict turns = verdict_on_hits(cells, "turns");
  EXPECT_EQ(turns.cells, 1U);
  EXPECT_NEAR(turns.found.estimate, 0.2, 1e-9);
  EXPECT_EQ(turns.outcome, Outcome::kReproduced);
  const Verdict others = verdict_on_hits(cells, "");
  EXPECT_EQ(others.cells, 1U);
  EXPECT_NEAR(others.found.estimate, 0, 1e-9);
  EXPECT_EQ(others.outcome, Outcome::kNotReproduced);
  EXPECT_EQ(verdict_on_hits({{"plain", 0.9, 0.5, 0.5}}, "turns").cells, 0U);
}

TEST(ReproductionStatisticsTest, MoreHitsAreBetter) {
  EXPECT_EQ(verdict_on_hits({{"turns", 0.9, 0.6, 0.5}}, "turns").outcome, Outcome::kNotReproduced);
}

TEST(ReproductionStatisticsTest, ABaselineWithoutHitsDecidesNothing) {
  const Verdict verdict = verdict_on_hits({{"turns", 0.9, 0, 0.5}}, "turns");
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_EQ(verdict.why, "the baseline has none");
  EXPECT_EQ(verdict.cells, 1U);
}

TEST(ReproductionStatisticsTest, OneSeedDecidesNothing) {
  for (const double change : {-40.0, -20.0, 0.0, 20.0}) {
    const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {change});
    EXPECT_EQ(verdict.outcome, Outcome::kUndecided) << change;
    EXPECT_EQ(verdict.why, "one seed has no interval");
    EXPECT_EQ(verdict.found.low, verdict.found.high);
  }
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {0}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-40, -40}), Outcome::kReproduced);
}

TEST(ReproductionStatisticsTest, ALateClientDecidesNothing) {
  EXPECT_EQ(verdict_on(Metric::kTtft, -0.2, {-30, -20}, 1).outcome, Outcome::kReproduced);
  const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {-30, -20, -20}, 2);
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_EQ(verdict.why, "the client was late in more than half of the runs");
}

}  // namespace
}  // namespace gimbal::apps
