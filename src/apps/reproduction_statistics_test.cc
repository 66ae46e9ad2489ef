#include "apps/reproduction_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace gimbal::apps {
namespace {

using Metric = PaperClaim::Metric;

using Over = PaperClaim::Over;
using Changes = std::vector<double>;

Reproduction plan_of(std::vector<PaperClaim> claims = {}) {
  return {.name = "test",
          .title = "A test",
          .place = "Simulated",
          .systems = {{"old", {}, true}, {"worse", {}, true}, {"new", {}, false}},
          .claims = std::move(claims)};
}

// Workloads "w0", "w1" … at 0.9, each with a baseline at 100 in all, one that is worse, and a
// system at these changes in percent, one a seed; 100 requests a run. Three seeds have the 2.5th
// and 97.5th percentile of resampled means at the least and the greatest: each is drawn three times
// in 1 of 27 resamples.
ReproductionResult result_of(Metric metric, const std::vector<Changes>& cells) {
  ReproductionResult result;
  result.seeds.resize(cells.front().size());
  for (std::size_t index = 0; index < cells.size(); ++index) {
    ReproducedCell& cell = result.cells.emplace_back(
        ReproducedCell{.workload = "w" + std::to_string(index), .load = 0.9});
    for (const double change : cells[index]) {
      RunNumbers run{
          .mean_ttft_ms = 100, .mean_tpot_ms = 100, .request_throughput = 100, .requests = 100};
      cell.runs["old"].push_back(run);
      run.*field_of(metric) += change;
      cell.runs["new"].push_back(run);
      run.*field_of(metric) = more_is_better(field_of(metric)) ? 20 : 500;
      cell.runs["worse"].push_back(run);
    }
  }
  return result;
}

PaperClaim claim_of(Metric metric, double change, Over over = Over::kMean) {
  return {.text = "a claim",
          .label = "P",
          .system = "new",
          .metric = metric,
          .over = over,
          .change = change};
}

Verdict verdict_on(Metric metric, double claimed, const Changes& changes) {
  return judge(plan_of(), result_of(metric, {changes}), claim_of(metric, claimed));
}

Verdict best_of(double claimed, const std::vector<Changes>& cells) {
  return judge(plan_of(), result_of(Metric::kTtft, cells),
               claim_of(Metric::kTtft, claimed, Over::kBest));
}

// One cell of each workload at this load, with the shares that a baseline and a system find cached.
struct Hits {
  std::string workload;
  double load = 0;
  double old_share = 0;
  double new_share = 0;
};
Verdict verdict_on_hits(const std::vector<Hits>& cells, const std::string& of_workload) {
  const Reproduction plan =
      plan_of({{"hits +10 %", "P", "new", Metric::kPrefixHits, Over::kMean, 0.1, 0.5, "turns"},
               {"all others +10 %", "P", "new", Metric::kPrefixHits, Over::kMean, 0.1, 0.5}});
  ReproductionResult result{.seeds = {1, 2}, .cells = {}};
  for (const Hits& hits : cells) {
    result.cells.push_back({.workload = hits.workload, .load = hits.load});
    result.cells.back().runs["old"].assign(2, {.cached_share = hits.old_share});
    result.cells.back().runs["worse"].assign(2, {.cached_share = 0});
    result.cells.back().runs["new"].assign(2, {.cached_share = hits.new_share});
  }
  return judge(plan, result, plan.claims[of_workload == "turns" ? 0 : 1]);
}

Outcome outcome_on(Metric metric, double claimed, const Changes& changes) {
  return verdict_on(metric, claimed, changes).outcome;
}

TEST(ReproductionStatisticsTest, IntervalsOfThreeSeedsReachFromTheLeastToTheGreatest) {
  const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {-30, -20, -10});
  EXPECT_NEAR(verdict.found->estimate, -0.2, 1e-9);
  EXPECT_NEAR(verdict.found->low, -0.3, 1e-9);
  EXPECT_NEAR(verdict.found->high, -0.1, 1e-9);
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

TEST(ReproductionStatisticsTest, AClaimOfNoChangeNeedsAnIntervalWithinThreePercent) {
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-2, 0, 2}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-2.99, 0, 2.99}), Outcome::kReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {1, 2, 2.5}), Outcome::kReproduced);
  const Verdict wide = verdict_on(Metric::kThroughput, 0, {-60, 0, 60});
  EXPECT_EQ(wide.outcome, Outcome::kUndecided);
  EXPECT_EQ(wide.why, "the interval reaches beyond ±3 %");
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-2, 0, 3.01}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-9, -6, -2.99}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {-9, -6, -3.01}), Outcome::kNotReproduced);
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {3.01, 4, 5}), Outcome::kNotReproduced);
  EXPECT_EQ(outcome_on(Metric::kTpot, 0, {-5, -4, -3.01}), Outcome::kNotReproduced);
}

TEST(ReproductionStatisticsTest, TheBestCellIsOneThatReproducesBeforeALowerEstimate) {
  // -30 % [-70, +10] can tell nothing, -20 % [-22, -18] can.
  const Verdict verdict = best_of(-0.178, {{-70, -30, 10}, {-22, -20, -18}});
  EXPECT_EQ(verdict.outcome, Outcome::kReproduced);
  EXPECT_EQ(verdict.where, "w1 at 0.9");
  EXPECT_NEAR(verdict.found->estimate, -0.2, 1e-9);
  EXPECT_EQ(verdict.cells, 2U);
}

TEST(ReproductionStatisticsTest, TheBestCellIsAnUndecidedOneBeforeOneThatIsNotReproduced) {
  // -16 % [-17, -15] falls short, -12 % [-26, +2] cannot tell.
  const Verdict verdict = best_of(-0.178, {{-17, -16, -15}, {-26, -12, 2}});
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_EQ(verdict.where, "w1 at 0.9");
  EXPECT_EQ(verdict.why, "the interval holds no change and the claim");
}

TEST(ReproductionStatisticsTest, OfCellsWithOneOutcomeTheBestEstimateIsTheBest) {
  EXPECT_EQ(best_of(-0.178, {{-22, -20, -18}, {-32, -30, -28}, {-27, -25, -23}}).where,
            "w1 at 0.9");
  EXPECT_EQ(best_of(-0.178, {{-3, -2, -1}, {1, 2, 3}, {-6, -5, -4}}).where, "w2 at 0.9");
  const Verdict more =
      judge(plan_of(), result_of(Metric::kThroughput, {{4, 5, 6}, {7, 8, 9}, {-30, -20, -10}}),
            claim_of(Metric::kThroughput, 0.03, Over::kBest));
  EXPECT_EQ(more.outcome, Outcome::kReproduced);
  EXPECT_EQ(more.where, "w1 at 0.9");
}

TEST(ReproductionStatisticsTest, ACellWhoseBaselineHasNoneLeavesTheOthersToDecide) {
  ReproductionResult result = result_of(Metric::kTtft, {{-30, -30, -30}, {-20, -20, -20}});
  result.cells[0].runs.at("old")[0].mean_ttft_ms = 0;
  const Verdict best = judge(plan_of(), result, claim_of(Metric::kTtft, -0.178, Over::kBest));
  EXPECT_EQ(best.outcome, Outcome::kReproduced);
  EXPECT_EQ(best.where, "w1 at 0.9");
  ReproductionResult little = result_of(Metric::kTtft, {{-30, -30, -30}, {-2, -2, -2}});
  little.cells[0].runs.at("old")[0].mean_ttft_ms = 0;
  EXPECT_EQ(judge(plan_of(), little, claim_of(Metric::kTtft, -0.178, Over::kBest)).outcome,
            Outcome::kNotReproduced);
  const Verdict mean = judge(plan_of(), result, claim_of(Metric::kTtft, -0.178));
  EXPECT_EQ(mean.why, "the baseline has none");
  EXPECT_FALSE(mean.found);
}

TEST(ReproductionStatisticsTest, AClaimOfAWorkloadIsJudgedThereAndOthersElsewhere) {
  const std::vector<Hits> cells = {
      {"turns", 0.4, 0.5, 0.9}, {"turns", 0.9, 0.5, 0.6}, {"plain", 0.9, 0.5, 0.5}};
  const Verdict turns = verdict_on_hits(cells, "turns");
  EXPECT_EQ(turns.cells, 1U);
  EXPECT_NEAR(turns.found->estimate, 0.2, 1e-9);
  EXPECT_EQ(turns.outcome, Outcome::kReproduced);
  const Verdict others = verdict_on_hits(cells, "");
  EXPECT_EQ(others.cells, 1U);
  EXPECT_NEAR(others.found->estimate, 0, 1e-9);
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
  EXPECT_FALSE(verdict.found);
  EXPECT_EQ(verdict.cells, 1U);
}

TEST(ReproductionStatisticsTest, OneSeedDecidesNothing) {
  for (const double change : {-40.0, -20.0, 0.0, 20.0}) {
    const Verdict verdict = verdict_on(Metric::kTtft, -0.2, {change});
    EXPECT_EQ(verdict.outcome, Outcome::kUndecided) << change;
    EXPECT_EQ(verdict.why, "one seed has no interval");
    EXPECT_EQ(verdict.found->low, verdict.found->high);
  }
  EXPECT_EQ(outcome_on(Metric::kThroughput, 0, {0}), Outcome::kUndecided);
  EXPECT_EQ(outcome_on(Metric::kTtft, -0.2, {-40, -40}), Outcome::kReproduced);
}

// Of four runs that are looked at, two of each side, two may be late.
TEST(ReproductionStatisticsTest, ALateClientDecidesNothing) {
  ReproductionResult result = result_of(Metric::kTtft, {{-30, -20}});
  auto& runs = result.cells[0].runs;
  const PaperClaim claim = claim_of(Metric::kTtft, -0.2);
  runs.at("old")[0].valid = runs.at("new")[0].valid = false;
  EXPECT_EQ(judge(plan_of(), result, claim).outcome, Outcome::kReproduced);
  runs.at("new")[1].valid = false;
  const Verdict verdict = judge(plan_of(), result, claim);
  EXPECT_EQ(verdict.outcome, Outcome::kUndecided);
  EXPECT_EQ(verdict.why, "the client was late in more than half of the runs");
}

TEST(ReproductionStatisticsTest, OnlyRunsThatAreComparedCanBeLate) {
  ReproductionResult result = result_of(Metric::kTtft, {{-30, -30}, {-20, -20}});
  for (RunNumbers& run : result.cells[0].runs.at("worse"))
    run.valid = false;
  for (const char* system : {"old", "worse", "new"}) {
    for (RunNumbers& run : result.cells[1].runs.at(system))
      run.valid = false;
  }
  const Verdict best = judge(plan_of(), result, claim_of(Metric::kTtft, -0.2, Over::kBest));
  EXPECT_EQ(best.outcome, Outcome::kReproduced);
  EXPECT_EQ(best.where, "w0 at 0.9");
  // The mean is over both: four of eight runs are late, and then five.
  EXPECT_EQ(judge(plan_of(), result, claim_of(Metric::kTtft, -0.2)).outcome, Outcome::kReproduced);
  result.cells[0].runs.at("old")[0].valid = false;
  EXPECT_EQ(judge(plan_of(), result, claim_of(Metric::kTtft, -0.2)).outcome, Outcome::kUndecided);
}

// Two runs of 100 requests a side: two unanswered are 1 %.
TEST(ReproductionStatisticsTest, WhoLeavesRequestsUnansweredDoesNotWin) {
  for (const char* system : {"old", "new"}) {
    ReproductionResult result = result_of(Metric::kTtft, {{-30, -30}});
    const auto verdict = [&] { return judge(plan_of(), result, claim_of(Metric::kTtft, -0.2)); };
    result.cells[0].runs.at("worse")[0].refused = 50;
    result.cells[0].runs.at(system)[1].refused = 2;
    EXPECT_EQ(verdict().outcome, Outcome::kReproduced);
    result.cells[0].runs.at(system)[0].refused = 1;
    EXPECT_EQ(verdict().outcome, Outcome::kUndecided);
    EXPECT_THAT(verdict().why, ::testing::HasSubstr("more than 1 % of the requests unanswered"));
    EXPECT_THAT(verdict().why,
                ::testing::HasSubstr(system == std::string("old") ? "baseline" : "system"));
  }
}

}  // namespace
}  // namespace gimbal::apps
