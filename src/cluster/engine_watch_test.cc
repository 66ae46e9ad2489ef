#include "cluster/engine_watch.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gimbal::cluster {
namespace {

using policy::Freshness;

TimePoint at_ms(double ms) {
  return TimePoint{from_ms(ms)};
}

// Steps take 10 ms + 0.1 a prefill row.
EngineSnapshot busy(std::uint64_t sequence, double taken_ms) {
  EngineSnapshot snapshot{.sequence = sequence, .taken = at_ms(taken_ms)};
  snapshot.running_requests = 1;
  snapshot.step_times = policy::StepTimeCoefficients{.attention = {10, 0.1, 0, 0, 0}};
  snapshot.running_step = policy::StepShape{.prefill = 100};
  snapshot.step_started = at_ms(taken_ms);
  return snapshot;
}

TEST(EngineWatchTest, AgesInPredictedSteps) {
  EngineWatch watch({});
  EXPECT_EQ(watch.freshness(at_ms(0)), Freshness::kLedgerOnly);
  watch.note(busy(1, 100));
  EXPECT_DOUBLE_EQ(watch.predicted_step_ms(), 20);
  EXPECT_EQ(watch.freshness(at_ms(140)), Freshness::kFresh);
  EXPECT_EQ(watch.freshness(at_ms(141)), Freshness::kStale);
  EXPECT_EQ(watch.freshness(at_ms(1100)), Freshness::kStale);  // 1 s is more than 8 steps
  EXPECT_EQ(watch.freshness(at_ms(1101)), Freshness::kLedgerOnly);
  EngineSnapshot slow = busy(2, 2000);
  slow.running_step->prefill = 4900;  // 500 ms a step
  watch.note(slow);
  EXPECT_EQ(watch.freshness(at_ms(3000)), Freshness::kFresh);
  EXPECT_EQ(watch.freshness(at_ms(6000)), Freshness::kStale);
  EXPECT_EQ(watch.freshness(at_ms(6001)), Freshness::kLedgerOnly);
}

TEST(EngineWatchTest, AStepLastsAsLongAsThoseWhoStepTogetherAreExpectedToTake) {
  EngineWatch watch({});
  EngineSnapshot together = busy(1, 100);  // 20 ms of its own, 500 with the others
  together.running_prefill_tokens = 150;
  together.step_expected_ms = 500;
  watch.note(together);
  EXPECT_DOUBLE_EQ(watch.predicted_step_ms(), 500);
  EXPECT_EQ(watch.freshness(at_ms(1100)), Freshness::kFresh);
  policy::EngineView view;
  watch.fill(at_ms(400), view);
  EXPECT_DOUBLE_EQ(*view.residual_ms, 200);
  EXPECT_EQ(view.running_prefill_tokens, 150);
  EXPECT_EQ(view.step_prefill_tokens, 100);
  // So it is before step times are fitted.
  together.step_times.reset();
  ++together.sequence;
  watch.note(together);
  watch.fill(at_ms(400), view);
  EXPECT_DOUBLE_EQ(*view.residual_ms, 200);
  // Between steps there is nothing to expect.
  EngineSnapshot between = busy(3, 600);
  between.running_step.reset();
  between.step_expected_ms = 500;
  watch.note(between);
  EXPECT_DOUBLE_EQ(watch.predicted_step_ms(), 10);
}

TEST(EngineWatchTest, AnIdleEngineDoesNotAge) {
  EngineWatch watch({});
  EngineSnapshot idle = busy(1, 0);
  idle.running_requests = 0;
  idle.running_step.reset();
  watch.note(idle);
  EXPECT_EQ(watch.freshness(at_ms(1e7)), Freshness::kFresh);
  policy::EngineView view;
  watch.fill(at_ms(1e7), view);
  EXPECT_EQ(view.age_ms, 0);
  EXPECT_EQ(view.residual_ms, 0);
}

TEST(EngineWatchTest, OlderSnapshotsAreIgnored) {
  EngineWatch watch({});
  watch.note(busy(5, 100));
  watch.note(busy(4, 200));
  EXPECT_EQ(watch.snapshot()->sequence, 5U);
}

TEST(EngineWatchTest, PredictsTheRestOfTheStep) {
  EngineWatch watch({});
  watch.note(busy(1, 100));
  policy::EngineView view;
  watch.fill(at_ms(105), view);
  EXPECT_DOUBLE_EQ(*view.residual_ms, 15);
  watch.fill(at_ms(130), view);
  EXPECT_DOUBLE_EQ(*view.residual_ms, 0);
  EngineSnapshot unfitted = busy(2, 100);
  unfitted.step_times.reset();
  watch.note(unfitted);
  view = {};
  watch.fill(at_ms(105), view);
  EXPECT_FALSE(view.residual_ms);
  EXPECT_FALSE(view.costs);
}

TEST(EngineWatchTest, LearnsRatesFromCounters) {
  EngineWatch watch({});
  policy::EngineView view;
  watch.note(busy(1, 0));
  watch.fill(at_ms(0), view);
  EXPECT_FALSE(view.output_tokens);
  EXPECT_FALSE(view.pages_freed_per_ms);
  EXPECT_FALSE(view.recompute_ms);
  EngineSnapshot next = busy(2, 100);
  next.pages_freed = 50;
  next.pages_evicted = 20;
  next.finished_requests = 2;
  next.finished_output_tokens = 60;
  next.evictions = 2;
  next.recomputed_tokens = 500;
  watch.note(next);
  watch.fill(at_ms(100), view);
  EXPECT_DOUBLE_EQ(*view.pages_freed_per_ms, 0.5);
  EXPECT_DOUBLE_EQ(*view.pages_evicted_per_ms, 0.2);
  EXPECT_DOUBLE_EQ(*view.output_tokens, 30);
  EXPECT_DOUBLE_EQ(*view.recompute_ms, 250 * 0.1);
  next.sequence = 3;
  next.taken = at_ms(1100);
  next.finished_requests = 3;
  next.finished_output_tokens = 160;
  watch.note(next);
  watch.fill(at_ms(1100), view);
  EXPECT_NEAR(*view.pages_freed_per_ms, 0.5 * std::exp(-1.0), 1e-9);
  EXPECT_NEAR(*view.output_tokens, 30 + 0.05 * 70, 1e-9);
}

TEST(EngineWatchTest, ExclusionsGrowAndAlwaysEnd) {
  EngineWatch watch({});
  watch.note(busy(1, 0));
  double now = 0;
  double expected = 250;
  for (int failure = 0; failure < 20; ++failure) {
    watch.note_health(false, at_ms(now));
    EXPECT_EQ(watch.freshness(at_ms(now)), Freshness::kExcluded);
    const double left = to_ms(watch.excluded_until().time_since_epoch()) - now;
    EXPECT_GE(left, std::min(0.5 * expected, 30'000.0) - 1e-3);
    EXPECT_LE(left, std::min(1.5 * expected, 30'000.0) + 1e-3);
    now += left;
    EXPECT_NE(watch.freshness(at_ms(now + 1e-3)), Freshness::kExcluded);
    expected *= 2;
  }
  watch.note_health(true, at_ms(now));
  watch.note_health(false, at_ms(now));
  EXPECT_LE(to_ms(watch.excluded_until().time_since_epoch()) - now, 375);
}

}  // namespace
}  // namespace gimbal::cluster
