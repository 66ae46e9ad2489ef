#include "loadgen/expert_load.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gimbal::loadgen {
namespace {

// A server's page: rows by engine, in so many groups, and what all engines did.
MetricPage page(const std::vector<double>& rows, int groups, double distinct, double steps) {
  MetricPage made;
  for (std::size_t engine = 0; engine < rows.size(); ++engine) {
    const auto labels = fmt::format("{{engine=\"{}\",model_name=\"m\"}}", engine);
    made.counters["gimbal:expert_service_rows_total" + labels] = rows[engine];
    made.counters["gimbal:distinct_experts_total" + labels] =
        distinct / static_cast<double>(rows.size());
    made.counters["gimbal:steps_total" + labels] = steps / static_cast<double>(rows.size());
  }
  for (int group = 0; group < groups; ++group) {
    made.gauges[fmt::format("gimbal:expert_map_version{{group=\"{}\"}}", group)] = 1;
  }
  return made;
}

TEST(ExpertLoad, IsOfTheRiseOfTheCounters) {
  const ExpertLoad load = expert_load(page({100, 900}, 1, 50, 10), page({400, 1000}, 1, 250, 50));
  EXPECT_DOUBLE_EQ(load.rank_load_max_over_mean.value(), 1.5);  // 300 and 100
  EXPECT_DOUBLE_EQ(load.distinct_experts_per_step.value(), 5.0);
}

TEST(ExpertLoad, ARankWithoutRowsCounts) {
  const ExpertLoad load = expert_load(page({7, 0}, 1, 0, 0), page({9, 0}, 1, 0, 1));
  EXPECT_DOUBLE_EQ(load.rank_load_max_over_mean.value(), 2.0);
}

TEST(ExpertLoad, RanksAreHeldAgainstThoseOfTheirGroup) {
  // Twelve engines, so that their order is that of numbers.
  std::vector<double> rows(12, 10.0);
  EXPECT_DOUBLE_EQ(expert_load({}, page(rows, 2, 0, 0)).rank_load_max_over_mean.value(), 1.0);
  for (std::size_t engine = 6; engine < 12; ++engine)
    rows[engine] = 30.0;  // a busy group, each of whose ranks has as much
  EXPECT_DOUBLE_EQ(expert_load({}, page(rows, 2, 0, 0)).rank_load_max_over_mean.value(), 1.0);
  rows[10] = 90.0;  // (10 + 90) / (10 + 40)
  EXPECT_DOUBLE_EQ(expert_load({}, page(rows, 2, 0, 0)).rank_load_max_over_mean.value(), 2.0);
}

TEST(ExpertLoad, AServerThatBeganAnewCountsFromZero) {
  const ExpertLoad load = expert_load(page({900, 900}, 1, 90, 9), page({30, 10}, 1, 8, 4));
  EXPECT_DOUBLE_EQ(load.rank_load_max_over_mean.value(), 1.5);
  EXPECT_DOUBLE_EQ(load.distinct_experts_per_step.value(), 2.0);
}

TEST(ExpertLoad, BytesAreThoseOfBothWays) {
  const auto exchanged = [](double in, double out) {
    MetricPage made = page({1, 1}, 1, 0, 0);
    made.counters["gimbal:expert_exchange_in_bytes_total{engine=\"0\"}"] = in;
    made.counters["gimbal:expert_exchange_in_bytes_total{engine=\"1\"}"] = 2 * in;
    made.counters["gimbal:expert_exchange_out_bytes_total{engine=\"0\"}"] = out;
    return made;
  };
  const ExpertLoad load = expert_load(exchanged(100, 10), exchanged(1100, 1010));
  EXPECT_DOUBLE_EQ(load.exchange_bytes.value(), 4000.0);
}

TEST(ExpertLoad, IsAbsentWhereThereIsNothingToTell) {
  const ExpertLoad none = expert_load({}, {});
  EXPECT_FALSE(none.rank_load_max_over_mean || none.distinct_experts_per_step);
  EXPECT_FALSE(none.exchange_bytes);
  const MetricPage same = page({5, 6}, 1, 7, 8);
  const ExpertLoad idle = expert_load(same, same);
  EXPECT_FALSE(idle.rank_load_max_over_mean || idle.distinct_experts_per_step);
  // One engine: no groups. A model without experts: no distinct ones.
  MetricPage one;
  one.counters = {{"gimbal:steps_total", 4}, {"gimbal:distinct_experts_total", 12}};
  EXPECT_FALSE(expert_load({}, one).rank_load_max_over_mean);
  EXPECT_DOUBLE_EQ(expert_load({}, one).distinct_experts_per_step.value(), 3.0);
  one.counters["gimbal:distinct_experts_total"] = 0;
  one.counters["gimbal:distinct_experts_total_other"] = 9;
  EXPECT_FALSE(expert_load({}, one).distinct_experts_per_step);
}

}  // namespace
}  // namespace gimbal::loadgen
