#include "policy/gang_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "base/random.h"

namespace gimbal::policy {
namespace {

using testing::Contains;
using testing::ElementsAre;

// Attention 1 + 0.01·q + 0.1·D ms; services 0.5 + 0.001·rows + 0.1·experts ms, 2 of 10 experts a
// row.
GangTimes simple_times() {
  return {.coefficients = {.attention = {1, 0.01, 0.1, 0, 0}, .service = {0.5, 0.001, 0.1}},
          .experts = {.experts = 10, .choices_per_row = 2}};
}

GangMember member(int decodes, int want, int most, bool latency_sensitive = true) {
  return {.decodes = decodes,
          .want = want,
          .most = most,
          .max_rows = 4096,
          .latency_sensitive = latency_sensitive,
          .times = simple_times()};
}

GangPlan plan(std::string_view name, const std::vector<GangMember>& members, int layers = 1,
              const GangPlannerOptions& options = {}) {
  GangPlan plan;
  plan.budgets = {1, 2, 3, 4, 5};
  plan.alone = {true, true};
  plan.step_ms = 77;
  make_gang_planner(name, options).value()->plan({.members = members, .layers = layers}, plan);
  EXPECT_EQ(plan.budgets.size(), members.size());
  EXPECT_EQ(plan.alone.size(), members.size());
  return plan;
}

TEST(GangPlanner, PredictsAttentionAndServices) {
  GangTimes times = simple_times();
  EXPECT_DOUBLE_EQ(times.attention_ms({.prefill = 100, .decodes = 20}), 4);
  EXPECT_DOUBLE_EQ(times.streaming_ms(1), 0.2);
  EXPECT_DOUBLE_EQ(times.streaming_ms(2), 0.36);  // 10·(1 − 0.8²) = 3.6 experts
  EXPECT_DOUBLE_EQ(times.service_ms(2), 0.862);
  times.expert_ratio = 0.5;
  EXPECT_DOUBLE_EQ(times.streaming_ms(2), 0.18);
  // Coefficients below 0 do not make more rows faster.
  times.coefficients = {.attention = {1, -1, -3, 0, -1}, .service = {-5, 0, -1}};
  EXPECT_EQ(times.attention_ms({.prefill = 9, .decodes = 1, .prefill_context = 5}), 0);
  EXPECT_EQ(times.service_ms(100), 0);
  EXPECT_NEAR(member(20, 0, 0).alone_ms(100), 4 + 0.5 + 0.12 + 1, 1e-9);
}

TEST(GangPlanner, TimesComeFromAFittedModel) {
  const ExpertShape experts{.experts = 10, .choices_per_row = 2};
  StepTimeModel model(experts);
  EXPECT_EQ(GangTimes::of(model, experts), std::nullopt);
  for (int i = 0; i < 64; ++i) {
    const StepShape step{.prefill = 16.0 * (i % 5), .decodes = 1.0 + i % 7};
    const double touched = 0.5 * 10;  // half of what uniform choices would touch, in the end
    model.note(step, 1 + 0.01 * step.prefill + 0.1 * step.decodes, 0.5 + 0.01 * step.rows(),
               touched);
  }
  const auto times = GangTimes::of(model, experts);
  ASSERT_TRUE(times);
  EXPECT_NEAR(times->attention_ms({.prefill = 100, .decodes = 20}), 4, 0.05);
  EXPECT_NEAR(times->expert_ratio, model.distinct_experts(1) / 2, 1e-12);
  EXPECT_LT(times->expert_ratio, 1);
}

TEST(GangPlanner, AsWantedGivesWhatIsWanted) {
  const GangPlan got = plan("as-wanted", {member(10, 500, 1000), member(20, 100, 1000)});
  EXPECT_THAT(got.budgets, ElementsAre(500, 100));
  EXPECT_THAT(got.alone, ElementsAre(false, false));
  // Attention 1 + 5 + 1 = 7 ms; 630 rows touch all 10 experts: 0.5 + 0.63 + 1.
  EXPECT_DOUBLE_EQ(got.step_ms, 9.13);
}

TEST(GangPlanner, NobodyGetsMoreThanFits) {
  for (const std::string_view name : gang_planner_names()) {
    std::vector<GangMember> members = {member(4090, 500, 500), member(0, 900, 100),
                                       member(5000, 1, 1), member(0, -3, -3)};
    EXPECT_THAT(plan(name, members).budgets, ElementsAre(6, 100, 0, 0)) << name;
  }
}

TEST(GangPlanner, PairingFillsUpToTheSlowestMembersAttention) {
  // The first takes 1 + 5 + 1 = 7 ms. The second decodes for 3 ms: 400 tokens more.
  const GangPlan got = plan("pairing", {member(10, 500, 1000), member(20, 100, 1000)});
  EXPECT_THAT(got.budgets, ElementsAre(500, 400));
  EXPECT_THAT(got.alone, ElementsAre(false, false));
  EXPECT_DOUBLE_EQ(got.step_ms, 7 + 0.5 + 0.93 + 1);
}

TEST(GangPlanner, PairingFillsNoMoreThanThereIsToRun) {
  EXPECT_THAT(plan("pairing", {member(10, 500, 1000), member(20, 100, 250)}).budgets,
              ElementsAre(500, 250));
}

TEST(GangPlanner, PairingFillsOnlyWhatTheServicesHardlyFeel) {
  // Attention 7 ms has room for 600 tokens. The step is 7 + 0.5 + 0.06 + 1 = 8.56 ms, of which 5 %
  // are 428 rows at the services, less a hair for experts that 60 rows do not touch.
  EXPECT_THAT(plan("pairing", {member(60, 0, 0), member(0, 0, 1000)}).budgets, ElementsAre(0, 427));
  // What is wanted is given, whatever it costs.
  EXPECT_THAT(plan("pairing", {member(60, 0, 0), member(0, 590, 1000)}).budgets,
              ElementsAre(0, 600));
}

TEST(GangPlanner, PairingCountsTheContextOfPrompts) {
  GangMember first = member(0, 100, 100);  // 2 ms
  GangMember second = member(0, 0, 1000);
  second.times->coefficients.attention = {1, 0, 0, 0, 0.0001};  // q·(position + (q + 1)/2)·0.0001
  second.prefill_position = 99.5;  // so q·(100 + q/2) <= 10 000: q = 73
  EXPECT_THAT(plan("pairing", {first, second}).budgets, ElementsAre(100, 73));
}

TEST(GangPlanner, BestEffortMembersDoNotStretchTheStep) {
  // Decodes alone take 1 + 2 = 3 ms, so 200 tokens fit; a quarter of the want is 250.
  EXPECT_THAT(plan("pairing", {member(20, 0, 0), member(0, 1000, 2000, false)}).budgets,
              ElementsAre(0, 250));
  // A quarter of 400 is 100: the step has room for 200.
  EXPECT_THAT(plan("pairing", {member(20, 0, 0), member(0, 400, 2000, false)}).budgets,
              ElementsAre(0, 200));
  // At least least_prefill of what it wants.
  EXPECT_THAT(plan("pairing", {member(29, 0, 0), member(30, 20, 20, false)}).budgets,
              ElementsAre(0, 16));
  // Among themselves they get their wants.
  EXPECT_THAT(plan("pairing", {member(20, 0, 0, false), member(0, 1000, 2000, false)}).budgets,
              ElementsAre(0, 1000));
}

TEST(GangPlanner, ALatencySensitiveMemberLeavesALongStep) {
  // Together: 500 tokens, a quarter, take 6 ms of attention; 501 rows 0.5 + 0.501 + 1 at the
  // services: 8 ms. Alone the decode takes 1.1 + 0.701 = 1.8 ms and meets 1.8/8 of the other's
  // 2 ms at the services: 2.25 ms. Going together saves 0.2 ms of streaming.
  const GangPlan got =
      plan("pairing", {member(1, 0, 0), member(0, 2000, 2000, false)}, 1, {.rejoin_steps = 0});
  EXPECT_THAT(got.alone, ElementsAre(true, false));
  EXPECT_THAT(got.budgets, ElementsAre(0, 2000));
  EXPECT_DOUBLE_EQ(got.step_ms, 21 + 0.5 + 2 + 1);
  // Somebody with best-effort work alone stays.
  EXPECT_THAT(plan("pairing", {member(1, 0, 0, false), member(0, 2000, 2000, false)}).alone,
              ElementsAre(false, false));
}

// The first decodes, the second prefills 100 tokens. Together: 1 + 1 = 2 ms of attention, 101 rows
// 0.5 + 0.101 + 1 at the services: 3.6 ms. Apart the first takes 1.1 + 0.701 = 1.801 ms, in which
// it meets 1.801/3.6 of the other's 1.6 ms: 2.6 ms; the other 3.6 ms and 0.701 ms for each of those
// 1.385 steps: 4.57 ms.
TEST(GangPlanner, WhoGoesAloneIsWeighedByRequests) {
  GangMember decoding = member(1, 0, 0);
  GangMember prefilling = member(0, 100, 100);
  const GangPlannerOptions no_wait{.rejoin_steps = 0};
  decoding.requests = 4;  // 4 · 2.6 + 4.57 = 14.97 is less than 0.95 · 5 · 3.6 = 17.1
  EXPECT_THAT(plan("pairing", {decoding, prefilling}, 1, no_wait).alone, Contains(true));
  prefilling.requests = 5;  // others wait behind it: 4 · 2.6 + 5 · 4.57 is more than 9 · 3.6
  EXPECT_THAT(plan("pairing", {decoding, prefilling}, 1, no_wait).alone, ElementsAre(false, false));
  // A gain of less than part_gain is none.
  prefilling.requests = 1;
  EXPECT_THAT(
      plan("pairing", {decoding, prefilling}, 1, {.part_gain = 0.2, .rejoin_steps = 0}).alone,
      ElementsAre(false, false));
}

TEST(GangPlanner, WhoseStepsAreShorterWaitsToBeInStepAgain) {
  GangMember decoding = member(1, 0, 0);
  decoding.requests = 4;
  // As above, but 4 · (2.6 + 4.57) + 4.57 = 33.3 is more than 0.95 · 5 · 3.6 = 17.1: 4 times 2.6
  // is more than the longer step.
  EXPECT_THAT(plan("pairing", {decoding, member(0, 100, 100)}).alone, ElementsAre(false, false));
  // Together 21 + 3.5 ms. The decode meets 1.801/24.5 of 3.5 ms: 2.06 ms; the other 24.5 ms and
  // 11.9 times 0.701 ms: 32.8 ms. 4 · (1 + 4) · 2.06 + 32.8 = 74 is less than 0.95 · 5 · 24.5 =
  // 116.
  EXPECT_THAT(plan("pairing", {decoding, member(0, 2000, 2000)}).alone, Contains(true));
}

TEST(GangPlanner, MembersOfEqualStepsStayTogether) {
  for (const int decodes : {1, 3, 32}) {
    const std::vector<GangMember> members(4, member(decodes, 8, 64));
    EXPECT_THAT(plan("pairing", members).alone, ElementsAre(false, false, false, false)) << decodes;
  }
}

TEST(GangPlanner, StreamingThatIsDearKeepsMembersTogether) {
  // The short one would wait 1 ms for the long one's attention, and share its experts.
  std::vector<GangMember> members = {member(2, 0, 0), member(12, 0, 0)};
  for (GangMember& m : members)
    m.times->coefficients.service[2] = 10;
  EXPECT_THAT(plan("pairing", members).alone, ElementsAre(false, false));
}

TEST(GangPlanner, StagesStayWithinTheirLimit) {
  GangMember first = member(10, 500, 1000);
  first.max_stage_ms = 1;  // over 4 layers: 4 ms of attention, 2 of them decodes
  EXPECT_THAT(plan("pairing", {first, member(20, 100, 1000)}, 4).budgets, ElementsAre(200, 100));
  EXPECT_THAT(plan("as-wanted", {first}, 4).budgets, ElementsAre(200));
  first.max_stage_ms = 0;  // some prefill goes on all the same
  EXPECT_THAT(plan("as-wanted", {first}, 4).budgets, ElementsAre(16));
  first.want = 5;
  EXPECT_THAT(plan("as-wanted", {first}, 4).budgets, ElementsAre(5));
}

TEST(GangPlanner, WithoutFittedTimesEverybodyGetsItsWant) {
  std::vector<GangMember> members = {member(10, 500, 1000), member(20, 100, 1000, false)};
  members[0].times.reset();
  members[1].times.reset();
  members[1].max_stage_ms = 0.001;
  GangPlan got = plan("pairing", members);
  EXPECT_THAT(got.budgets, ElementsAre(500, 100));
  EXPECT_THAT(got.alone, ElementsAre(false, false));
  EXPECT_EQ(got.step_ms, 0);
  // One that is not fitted makes no time for the others, which fill up to what they know.
  members[1] = member(0, 100, 1000);
  members.push_back(member(0, 0, 1000));
  got = plan("pairing", members);
  EXPECT_THAT(got.budgets, ElementsAre(500, 100, 100));
}

TEST(GangPlanner, ARandomGangKeepsItsBounds) {
  Rng rng(5);
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<GangMember> members(1 + rng.below(6));
    for (GangMember& m : members) {
      m = member(static_cast<int>(rng.below(64)), 0, static_cast<int>(rng.below(2000)),
                 rng.below(3) != 0);
      m.want = static_cast<int>(rng.below(static_cast<std::uint64_t>(m.most) + 1));
      m.max_rows = 256;
      if (rng.below(5) == 0) m.max_stage_ms = rng.uniform();
      if (rng.below(5) == 0) m.times.reset();
    }
    const GangPlan got = plan("pairing", members, 3);
    const GangPlan reference = plan("as-wanted", members, 3);
    double slowest = 0;  // of latency-sensitive wants and of what the others cannot do without
    int together = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
      const GangMember& m = members[i];
      EXPECT_LE(got.budgets[i], std::min(m.most, m.max_rows - m.decodes));
      EXPECT_GE(got.budgets[i], std::min(reference.budgets[i], 16));
      if (m.latency_sensitive || !m.times) {
        EXPECT_GE(got.budgets[i], reference.budgets[i]);
      }
      if (got.alone[i]) {
        EXPECT_TRUE(m.latency_sensitive);
        EXPECT_EQ(got.budgets[i], reference.budgets[i]);
        continue;
      }
      ++together;
      if (m.times) {
        slowest = std::max(slowest, m.times->attention_ms(m.step(reference.budgets[i])));
      }
    }
    EXPECT_GE(together, 1);
    for (std::size_t i = 0; i < members.size(); ++i) {
      const GangMember& m = members[i];
      if (got.alone[i] || !m.times) continue;
      EXPECT_LE(m.times->attention_ms(m.step(got.budgets[i])), slowest);
    }
  }
}

TEST(GangPlanner, PlanningAgainGivesTheSameAndKeepsItsMemory) {
  const auto planner = make_gang_planner("pairing", {}).value();
  const std::vector<GangMember> members = {member(1, 0, 0), member(0, 2000, 2000, false),
                                           member(9, 30, 90)};
  GangPlan got;
  planner->plan({.members = members}, got);
  const GangPlan first = got;
  const int* const budgets = got.budgets.data();
  planner->plan({.members = members}, got);
  EXPECT_EQ(got.budgets.data(), budgets);
  EXPECT_EQ(got.budgets, first.budgets);
  EXPECT_EQ(got.alone, first.alone);
  EXPECT_EQ(got.step_ms, first.step_ms);
}

TEST(GangPlanner, UnknownNamesAndBadOptionsAreErrors) {
  EXPECT_EQ(make_gang_planner("fair", {}).error().field, "name");
  EXPECT_EQ(make_gang_planner("pairing", {.least_prefill = -1}).error().field, "least_prefill");
  EXPECT_EQ(make_gang_planner("pairing", {.best_effort_share = 1.1}).error().field,
            "best_effort_share");
  EXPECT_EQ(make_gang_planner("pairing", {.part_gain = -1}).error().field, "part_gain");
  EXPECT_EQ(make_gang_planner("pairing", {.rejoin_steps = -1}).error().field, "rejoin_steps");
  EXPECT_FALSE(make_gang_planner("as-wanted", {.best_effort_share = -0.1}).ok());
  for (const std::string_view name : gang_planner_names())
    EXPECT_TRUE(make_gang_planner(name, {}).ok());
}

}  // namespace
}  // namespace gimbal::policy
