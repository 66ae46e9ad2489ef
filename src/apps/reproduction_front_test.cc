#include "apps/reproduction_front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/reproduction_report.h"

namespace gimbal::apps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<RunNumbers> runs(double ttft, double tpot, double noise = 0) {
  std::vector<RunNumbers> all;
  for (const double sign : {-1.0, 0.0, 1.0}) {
    all.push_back({.mean_ttft_ms = ttft * (1 + sign * noise),
                   .mean_tpot_ms = tpot,
                   .mean_e2el_ms = ttft + 100 * tpot});
  }
  return all;
}

Reproduction plan() {
  Reproduction plan{.name = "front", .title = "A front", .place = "Simulated", .front = true};
  plan.systems = {
      {"old B=1", {}, true}, {"old B=2", {}, true}, {"new k=1", {}, false}, {"new k=2", {}, false}};
  return plan;
}

ReproductionResult cell(std::map<std::string, std::vector<RunNumbers>> systems) {
  return {.seeds = {1, 2, 3},
          .cells = {{.workload = "w", .load = 0.9, .request_rate = 1, .runs = std::move(systems)}}};
}

TEST(ReproductionFrontTest, PointsThatAreMatchedInBothAreDominated) {
  const auto verdicts = judge_front(plan(), cell({{"old B=1", runs(100, 10)},
                                                  {"old B=2", runs(50, 20)},
                                                  {"new k=1", runs(60, 9)},
                                                  {"new k=2", runs(70, 8)}}));
  ASSERT_EQ(verdicts.size(), 1U);
  EXPECT_THAT(verdicts[0].undominated, ElementsAre("old B=2"));
  ASSERT_TRUE(verdicts[0].ttft_at_equal_tpot);
  EXPECT_EQ(verdicts[0].ttft_at_equal_tpot->baseline, "old B=1");
  EXPECT_EQ(verdicts[0].ttft_at_equal_tpot->system, "new k=1");
  EXPECT_DOUBLE_EQ(verdicts[0].ttft_at_equal_tpot->ratio.estimate, 0.6);
  EXPECT_EQ(verdicts[0].best_e2el.baseline, "old B=1");
  EXPECT_EQ(verdicts[0].best_e2el.system, "new k=2");
  EXPECT_DOUBLE_EQ(verdicts[0].best_e2el.ratio.estimate, 870.0 / 1100.0);
}

TEST(ReproductionFrontTest, WithinTheIntervalIsMatched) {
  const auto of = [](double noise) {
    return judge_front(plan(), cell({{"old B=1", runs(100, 10)},
                                     {"old B=2", runs(100, 10)},
                                     {"new k=1", runs(104, 10, noise)},
                                     {"new k=2", runs(104, 10, noise)}}));
  };
  EXPECT_THAT(of(0.2)[0].undominated, IsEmpty());
  EXPECT_THAT(of(0.01)[0].undominated, ElementsAre("old B=1", "old B=2"));
}

// A budget that is bad at both is no yardstick.
TEST(ReproductionFrontTest, EqualTpotIsLookedUpOnTheBaselinesOwnFront) {
  const auto verdicts = judge_front(plan(), cell({{"old B=1", runs(500, 22)},
                                                  {"old B=2", runs(50, 20)},
                                                  {"new k=1", runs(60, 21)},
                                                  {"new k=2", runs(70, 22)}}));
  EXPECT_FALSE(verdicts[0].ttft_at_equal_tpot);
}

TEST(ReproductionFrontTest, AnswersOfOneTokenHaveNoTpotToBeWorseAt) {
  const ReproductionResult result = cell({{"old B=1", runs(100, 0)},
                                          {"old B=2", runs(50, 0)},
                                          {"new k=1", runs(90, 0)},
                                          {"new k=2", runs(95, 0)}});
  EXPECT_THAT(judge_front(plan(), result)[0].undominated, ElementsAre("old B=2"));
  EXPECT_THAT(reproduction_text(plan(), result), HasSubstr("old B=2"));
  EXPECT_FALSE(reproduction_to_json(plan(), result)["cells"][2].contains("tpot_ratio"));
}

TEST(ReproductionFrontTest, IsPartOfTheReport) {
  const ReproductionResult result = cell({{"old B=1", runs(100, 10)},
                                          {"old B=2", runs(50, 20)},
                                          {"new k=1", runs(60, 9)},
                                          {"new k=2", runs(70, 8)}});
  const std::string text = reproduction_text(plan(), result);
  EXPECT_THAT(text, HasSubstr("old B=2"));
  EXPECT_THAT(text, HasSubstr("is undominated within the interval in 0 of 1 cells"));
  const Json json = reproduction_to_json(plan(), result);
  ASSERT_EQ(json["fronts"].size(), 1U);
  EXPECT_EQ(json["fronts"][0]["undominated"], Json({"old B=2"}));
}

}  // namespace
}  // namespace gimbal::apps
