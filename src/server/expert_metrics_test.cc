#include "server/expert_metrics.h"

#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

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
  inspector.groups.clear();
  families.clear();
  add_expert_metrics(inspector, "demo", families);
  EXPECT_TRUE(families.empty());
}

}  // namespace
}  // namespace gimbal::server
