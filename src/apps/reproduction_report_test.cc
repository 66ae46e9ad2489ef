#include "apps/reproduction_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/reproduction_fixture.h"

namespace gimbal::apps {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

ReproductionResult result_of(const Reproduction& plan) {
  auto result = reproduce(plan, {1, 2}, run_of_a_test, [](std::size_t) {});
  EXPECT_TRUE(result.ok());
  return *result;
}

TEST(ReproductionReportTest, ClaimsAreHeldAgainstTheBestBaselineOfEachMetric) {
  const Reproduction plan = plan_of_a_test();
  const std::string text = reproduction_text(plan, result_of(plan));
  EXPECT_THAT(text, HasSubstr("TTFT up to -50 % [P], `new`: found -50.0 % [-50.0 %, -50.0 %] "
                              "(long at 0.5): reproduced"));
  EXPECT_THAT(text, HasSubstr("TPOT -10 % [R], `new`: found +0.0 % [+0.0 %, +0.0 %] (mean of 4 "
                              "cells): not reproduced, 10.0 points short"));
  EXPECT_THAT(text, HasSubstr("throughput +3 % [P], `new`: found +5.0 % [+5.0 %, +5.0 %] (mean of "
                              "2 cells): reproduced"));
  EXPECT_THAT(text, HasSubstr("with seeds 1, 2."));
  EXPECT_THAT(text, HasSubstr("Intervals do not account for the choice of the best"));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("requests late")), Not(HasSubstr("undominated"))));
}

TEST(ReproductionReportTest, JsonHasTheSameAndNoDate) {
  const Reproduction plan = plan_of_a_test();
  const Json json = reproduction_to_json(plan, result_of(plan));
  EXPECT_TRUE(is_reproduction(json));
  EXPECT_FALSE(is_reproduction(Json::parse(R"({"completed": 3})")));
  EXPECT_FALSE(is_reproduction(Json::parse(R"([1])")));
  ASSERT_EQ(json["claims"].size(), 3U);
  EXPECT_EQ(json["claims"][0]["reproduced"], true);
  EXPECT_DOUBLE_EQ(json["claims"][0]["found_change"]["estimate"].get<double>(), -0.5);
  ASSERT_EQ(json["cells"].size(), 4U * 3);
  EXPECT_EQ(json["cells"][0]["runs"].size(), 2U);
  EXPECT_DOUBLE_EQ(json["cells"][0]["mean_ttft_ms"]["estimate"].get<double>(), 101.5);
  EXPECT_DOUBLE_EQ(json["cells"][2]["ttft_ratio"]["estimate"].get<double>(), 0.75);
  EXPECT_EQ(json["fronts"].size(), 0U);
  EXPECT_FALSE(json.contains("date"));
  EXPECT_EQ(json.dump(), reproduction_to_json(plan, result_of(plan)).dump());
}

TEST(ReproductionReportTest, AClaimWhoseLoadsWereNotRunSaysSo) {
  Reproduction plan = plan_of_a_test();
  plan.loads = {0.5};
  const std::string text = reproduction_text(plan, result_of(plan));
  EXPECT_THAT(
      text,
      HasSubstr("throughput +3 % [P], `new`: no load of 1.05 or more was run of its workloads"));
  const Json claim = reproduction_to_json(plan, result_of(plan))["claims"][2];
  EXPECT_EQ(claim["why"], "not run");
  EXPECT_TRUE(claim["found_change"].is_null());
}

// Of two workloads only the first has a prefix cache, and 0.5 in place of 0.4 of its tokens in it.
TEST(ReproductionReportTest, PrefixHitsHaveATableOfTheirOwn) {
  Reproduction plan = plan_of_a_test();
  plan.workloads[0].times_prompts = 8;
  plan.workloads[0].cache_tokens = 3200;
  EXPECT_THAT(reproduction_text(plan, result_of(plan)),
              AllOf(Not(HasSubstr("found cached")), HasSubstr("Runs of `short` have 8000")));
  plan.claims.push_back({"prefix hits +4 %", "P", "new", PaperClaim::Metric::kPrefixHits,
                         PaperClaim::Over::kMean, 0.04, 0, "short"});
  const std::string text = reproduction_text(plan, result_of(plan));
  EXPECT_THAT(text, HasSubstr("Runs of `short` have 8000 requests, its backlog 8000; an engine's "
                              "cache holds 3200 tokens."));
  EXPECT_THAT(text, HasSubstr("50.0 %"));
  EXPECT_THAT(text, HasSubstr("+25.0 % [+25.0 %, +25.0 %] (mean of 2 cells): reproduced"));
  EXPECT_THAT(text, HasSubstr("(long at 0.5): reproduced"));  // claims of the other workload
  EXPECT_THAT(text, HasSubstr("found +0.0 % [+0.0 %, +0.0 %] (mean of 2 cells)"));
  const Json json = reproduction_to_json(plan, result_of(plan));
  EXPECT_NEAR(json["cells"][2]["cached_ratio"]["estimate"].get<double>(), 1.25, 1e-9);
  EXPECT_DOUBLE_EQ(json["cells"][2]["runs"][0]["cached_share"].get<double>(), 0.5);
  EXPECT_FALSE(json["cells"][8].contains("cached_ratio"));  // nothing is cached there
}

TEST(ReproductionReportTest, PrefixHitsAreShownBelowTheLoadsOfTheirClaim) {
  Reproduction plan = plan_of_a_test();
  plan.claims.push_back({"prefix hits +4 %", "P", "new", PaperClaim::Metric::kPrefixHits,
                         PaperClaim::Over::kMean, 0.04, 2, "short"});
  EXPECT_THAT(reproduction_text(plan, result_of(plan)),
              AllOf(HasSubstr("found cached"), HasSubstr("no load of 2 or more was run of short")));
}

TEST(ReproductionReportTest, AnswersOfOneTokenHaveNoChangeOfTpot) {
  const Reproduction plan = plan_of_a_test();
  ReproductionResult result = result_of(plan);
  for (ReproducedCell& cell : result.cells) {
    for (auto& [system, runs] : cell.runs) {
      for (RunNumbers& run : runs)
        run.mean_tpot_ms = 0;
    }
  }
  EXPECT_THAT(reproduction_text(plan, result),
              HasSubstr("TPOT -10 % [R], `new`: undecided (the baseline has none)\n"));
  const Json json = reproduction_to_json(plan, result);
  EXPECT_FALSE(json["cells"][2].contains("tpot_ratio"));
  EXPECT_TRUE(json["cells"][2].contains("ttft_ratio"));
  EXPECT_TRUE(json["claims"][1]["found_change"].is_null());
}

TEST(ReproductionReportTest, WhatNoiseFoundIsUndecided) {
  const Reproduction plan = plan_of_a_test();
  ReproductionResult noisy = result_of(plan);
  noisy.cells[2].runs.at("new")[0].mean_ttft_ms = 0.1;
  noisy.cells[2].runs.at("new")[1].mean_ttft_ms = 102.5;
  noisy.cells[3].runs.at("new")[0].mean_ttft_ms = 200;
  const Json claim = reproduction_to_json(plan, noisy)["claims"][0];
  EXPECT_EQ(claim["outcome"], "undecided");
  EXPECT_EQ(claim["why"], "the interval holds no change and the claim");
  EXPECT_EQ(claim["reproduced"], false);
}

// The claim is borne out in two cells, "long" at both loads, against baseline "a".
TEST(ReproductionReportTest, ALateClientCountsWhereTheClaimIsBorneOut) {
  const Reproduction plan = plan_of_a_test();
  ReproductionResult late = result_of(plan);
  for (ReproducedCell& cell : late.cells) {
    for (auto& [system, runs] : cell.runs)
      runs[0].valid = false;
    cell.runs.at("b")[1].valid = false;
  }
  late.cells[0].runs.at("a")[1].valid = false;
  late.cells[2].runs.at("a")[1].valid = false;
  EXPECT_THAT(reproduction_text(plan, late), HasSubstr("(long at 1.2): reproduced"));
  late.cells[3].runs.at("a")[1].valid = false;
  EXPECT_THAT(reproduction_text(plan, late),
              HasSubstr("(long at 0.5): undecided (the client was late"));
  EXPECT_EQ(reproduction_to_json(plan, late)["claims"][0]["outcome"], "undecided");
}

TEST(ReproductionReportTest, SaysWhatTheMeansLeaveOut) {
  const Reproduction plan = plan_of_a_test();
  ReproductionResult result = result_of(plan);
  result.cells[1].runs.at("b")[0].valid = false;
  result.cells[2].runs.at("new")[1].refused = 4;
  const std::string text = reproduction_text(plan, result);
  EXPECT_THAT(text, HasSubstr("In 1 of 24 runs the client sent requests late"));
  EXPECT_THAT(text, HasSubstr("4 requests of all runs were not answered"));
}

}  // namespace
}  // namespace gimbal::apps
