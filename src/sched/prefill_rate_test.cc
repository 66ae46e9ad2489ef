#include "sched/prefill_rate.h"

#include <gtest/gtest.h>

namespace gimbal::sched {
namespace {

TEST(PrefillRateTest, KnowsItsInitialCostBeforeAnythingWasMeasured) {
  PrefillRate rate({.ms_per_token = 0.5, .ms_per_square_token = 0.25});
  EXPECT_DOUBLE_EQ(rate.cost().ms(2), 2);
  EXPECT_FALSE(rate.tokens_per_second());
  rate.note_step(from_ms(3), 0, 8);     // decodes say nothing of prefill
  rate.note_step(Duration{0}, 100, 0);  // a clock that stands still neither
  EXPECT_FALSE(rate.tokens_per_second());
}

TEST(PrefillRateTest, TakesWhatTheDecodesCostOffMixedSteps) {
  PrefillRate rate({});
  rate.note_step(from_ms(4), 0, 8);
  rate.note_step(from_ms(24), 100, 8);
  EXPECT_NEAR(rate.cost().ms_per_token, 0.2, 1e-12);
  EXPECT_NEAR(*rate.tokens_per_second(), 5000, 1e-6);
}

TEST(PrefillRateTest, NeverTakesAPrefillForFree) {
  PrefillRate rate({});
  rate.note_step(from_ms(40), 0, 8);
  rate.note_step(from_ms(20), 10, 8);
  EXPECT_NEAR(rate.cost().ms_per_token, 0.2, 1e-12);
}

TEST(PrefillRateTest, FollowsTheMachine) {
  PrefillRate rate({});
  for (int i = 0; i < 100; ++i)
    rate.note_step(from_ms(100), 100, 0);
  for (int i = 0; i < 100; ++i)
    rate.note_step(from_ms(200), 100, 0);
  EXPECT_NEAR(rate.cost().ms_per_token, 2, 0.02);
}

}  // namespace
}  // namespace gimbal::sched
