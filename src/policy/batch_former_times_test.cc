// What the gimbal former makes of step times: its floor, and steps that keep a target.

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "policy/batch_former_fixture.h"

namespace gimbal::policy {
namespace {

int prefill_of(const BatchDecision& decision, const BatchView& view) {
  int rows = 0;
  for (const Grant& grant : decision.grants) {
    if (grant.waiting || view.running[grant.index].prefill_left > 0) rows += grant.rows;
  }
  return rows;
}

int prefill_of(const BatchFormerOptions& options, const StepTimeModel* times, const Case& c,
               double steps_without_prefill = 0) {
  Scene scene = scene_of(c);
  scene.view.times = times;
  scene.view.steps_without_prefill = steps_without_prefill;
  BatchDecision decision;
  make_batch_former("gimbal", options).value()->form(scene.view, decision);
  return prefill_of(decision, scene.view);
}

TEST(BatchFormerTimesTest, GimbalFindsItsFloorFromStepTimes) {
  const StepTimeModel times = known_times();
  const StepTimeModel unfitted;
  const Case ten{"", "Ld Ld Ld Ld Ld Ld Ld Ld Ld Ld", "L300/1", ""};  // 10 ms without prefill
  EXPECT_EQ(prefill_of({.drain_steps = 8}, nullptr, ten), 64);
  EXPECT_EQ(prefill_of({.drain_steps = 8}, &unfitted, ten), 64);
  EXPECT_NEAR(prefill_of({.drain_steps = 100}, &times, ten), 25, 1);  // 2.5 ms of 0.1 ms rows
  EXPECT_EQ(prefill_of({.drain_steps = 100, .prefill_floor = 40}, &times, ten), 40);
  const Case one{"", "Ld", "L300/1", ""};  // 13 rows would hide: less than a page
  EXPECT_EQ(prefill_of({.drain_steps = 100}, &times, one), 16);
  StepTimeModel free_prefill;
  for (int i = 0; i < 100; ++i)
    free_prefill.note({.prefill = 1.0 + i % 50, .decodes = 1.0 + i % 7}, 5, 0, 0);
  Case many{"", "Ld", "L9000/1", "", 5000};
  EXPECT_EQ(prefill_of({.drain_steps = 1000}, &free_prefill, many), 2048);
}

TEST(BatchFormerTimesTest, GimbalCutsNoPromptFinerThanTheExpertsThatItReadsAreWorth) {
  const ExpertShape experts{.experts = 64, .choices_per_row = 8};
  StepTimeModel times(experts);
  Rng rng(4);
  for (int i = 0; i < 400; ++i) {
    StepShape step{.decodes = static_cast<double>(rng.below(20) + 1)};
    if (rng.below(2) == 0) step.add_prefill(0, static_cast<double>(rng.below(300) + 1));
    const double touched = 64 * (1 - std::pow(1 - 8.0 / 64, step.rows()));
    times.note(step, 1 + 0.05 * step.prefill, 0.05 * step.rows() + 0.1 * touched, touched);
  }
  // One decode leaves 56 experts unread: 5.6 ms, which 56 rows of 0.1 ms compute.
  const Case one{"", "Ld", "L300/1", ""};
  EXPECT_NEAR(prefill_of({.drain_steps = 100}, &times, one), 56, 2);
  // Ten leave 64·(7/8)^10 = 16.8: 1.7 ms.
  const Case ten{"", "Ld Ld Ld Ld Ld Ld Ld Ld Ld Ld", "L300/1", ""};
  EXPECT_NEAR(prefill_of({.drain_steps = 100}, &times, ten), 17, 2);
}

TEST(BatchFormerTimesTest, GimbalKeepsThePredictedStepBelowItsTarget) {
  const StepTimeModel times = known_times();
  const Case ten{"", "Ld Ld Ld Ld Ld Ld Ld Ld Ld Ld", "L4000/1", ""};  // wants all 246 rows
  EXPECT_EQ(prefill_of({}, &times, ten), 246);
  EXPECT_NEAR(prefill_of({.target_itl_ms = 20}, &times, ten), 100, 1);
  EXPECT_NEAR(prefill_of({.target_itl_ms = 10.55}, &times, ten), 5, 1);
  EXPECT_EQ(prefill_of({.target_itl_ms = 1000}, &times, ten), 246);
  const StepTimeModel unfitted;
  EXPECT_EQ(prefill_of({.target_itl_ms = 1}, &unfitted, ten), 246);
  EXPECT_EQ(prefill_of({.target_itl_ms = 1}, &times, {"", "", "L4000/1", ""}), 256);
}

TEST(BatchFormerTimesTest, GimbalLetsPromptsGoOnUnderATargetThatCannotBeMet) {
  const StepTimeModel times = known_times();
  const BatchFormerOptions options{.target_itl_ms = 1};
  const Case sensitive{"", "Ld", "L4000/1", ""};
  EXPECT_EQ(prefill_of(options, &times, sensitive), 0);
  EXPECT_EQ(prefill_of(options, &times, sensitive, 7), 0);
  EXPECT_EQ(prefill_of(options, &times, sensitive, 8), 16);
  const Case best_effort{"nobody's latency to keep", "Bd Bd", "L4000/1", ""};
  EXPECT_EQ(prefill_of(options, &times, best_effort), 16);
  Case owed{"both classes get some of it", "Ld", "L4000/1 B4000/1", ""};
  owed.owed = 100;
  Scene scene = scene_of(owed);
  scene.view.times = &times;
  scene.view.steps_without_prefill = 8;
  BatchDecision decision;
  make_batch_former("gimbal", options).value()->form(scene.view, decision);
  EXPECT_EQ(text_of(decision), "w1=8 r0=1 w0=8");
  EXPECT_EQ(decision.steps_without_prefill, 0);
  scene.view.steps_without_prefill = 2;
  make_batch_former("gimbal", options).value()->form(scene.view, decision);
  EXPECT_EQ(text_of(decision), "r0=1");
  EXPECT_EQ(decision.steps_without_prefill, 3);
}

}  // namespace
}  // namespace gimbal::policy
