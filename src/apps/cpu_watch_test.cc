#include "apps/cpu_watch.h"

#include <gtest/gtest.h>

namespace gimbal::apps {
namespace {

TEST(CpuWatch, AddsUpAllThatIsNotIdleness) {
  // idle 1000 and iowait 500 are not work; guest 7 is in user already.
  const auto busy = busy_ticks("cpu  100 20 30 1000 500 4 5 6 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
  ASSERT_TRUE(busy.has_value());
  EXPECT_EQ(*busy, 100 + 20 + 30 + 4 + 5 + 6);
}

TEST(CpuWatch, RefusesTextOfAnotherForm) {
  EXPECT_FALSE(busy_ticks("").has_value());
  EXPECT_FALSE(busy_ticks("cpu 1 2 3\n").has_value());
  EXPECT_FALSE(busy_ticks("cpu0 1 2 3 4 5 6 7 8\n").has_value());
  EXPECT_FALSE(busy_ticks("cpu 1 2 3 4 five 6 7 8\n").has_value());
}

}  // namespace
}  // namespace gimbal::apps
