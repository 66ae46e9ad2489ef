#include "server/expert_metrics.h"

#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <cmath>
#include <map>

#include "cluster/fake_inspector.h"

namespace gimbal::server {
namespace {

using cluster::FakeInspector;

TEST(ExpertMetrics, MetricsHaveASampleForEachEngineOrGroup) {
  FakeInspector inspector;
  std::vector<prometheus::MetricFamily> families;
  add_expert_metrics(inspector, "demo", families);
  std::map<std::string, const prometheus::MetricFamily*> by_name;
  for (const auto& family : families)
    EXPECT_TRUE(by_name.emplace(family.name, &family).second) << family.name << " twice";
  const auto& rows = *by_name.at("gimbal:expert_service_rows_total");
  ASSERT_EQ(rows.metric.size(), 4U);
  EXPECT_DOUBLE_EQ(rows.metric[0].counter.value, 30);
  EXPECT_EQ(rows.metric[3].label.front().value, "3");
  const auto& joins = *by_name.at("gimbal:gang_joins_total");
  ASSERT_EQ(joins.metric.size(), 4U);
  EXPECT_DOUBLE_EQ(joins.metric[0].counter.value, 7);
  EXPECT_DOUBLE_EQ(joins.metric[1].counter.value, 3);
  const auto& waits = *by_name.at("gimbal:expert_service_wait_seconds");
  EXPECT_EQ(waits.type, prometheus::MetricType::Histogram);
  ASSERT_EQ(waits.metric.size(), 4U);
  EXPECT_EQ(waits.metric[1].label.front().value, "1");
  inspector.groups.clear();
  families.clear();
  add_expert_metrics(inspector, "demo", families);
  EXPECT_TRUE(families.empty());
}

TEST(ExpertMetrics, TimesAreCumulativeInSecondsAndEndAtInfinity) {
  DurationHistogram times;
  times.record(std::chrono::microseconds(2));
  times.record(std::chrono::microseconds(3));
  times.record(std::chrono::seconds(11));
  FakeInspector inspector;
  inspector.groups[0].services[1].run_times = times.read();
  std::vector<prometheus::MetricFamily> families;
  add_expert_metrics(inspector, "demo", families);
  for (const prometheus::MetricFamily& family : families) {
    if (family.name != "gimbal:expert_service_run_seconds") continue;
    const prometheus::ClientMetric::Histogram& shown = family.metric[1].histogram;
    ASSERT_EQ(shown.bucket.size(), DurationHistogram::kBounds.size() + 1);
    EXPECT_DOUBLE_EQ(shown.bucket[0].upper_bound, 1e-6);
    EXPECT_EQ(shown.bucket[0].cumulative_count, 0U);
    EXPECT_EQ(shown.bucket[1].cumulative_count, 1U);
    EXPECT_EQ(shown.bucket[2].cumulative_count, 2U);
    EXPECT_DOUBLE_EQ(shown.bucket[21].upper_bound, 10);
    EXPECT_EQ(shown.bucket[21].cumulative_count, 2U);
    EXPECT_TRUE(std::isinf(shown.bucket.back().upper_bound));
    EXPECT_EQ(shown.bucket.back().cumulative_count, 3U);
    EXPECT_EQ(shown.sample_count, 3U);
    EXPECT_DOUBLE_EQ(shown.sample_sum, 11.000005);
    EXPECT_EQ(family.metric[0].histogram.sample_count, 0U);
    return;
  }
  FAIL() << "no such family";
}

}  // namespace
}  // namespace gimbal::server
