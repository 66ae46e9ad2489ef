#include "server/expert_endpoints.h"

#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <map>
#include <optional>

#include "policy/expert_map_json.h"

namespace gimbal::server {
namespace {

// Two groups of two engines over a model of a dense and a MoE layer with three experts.
class FakeInspector final : public cluster::ExpertInspector {
 public:
  std::vector<cluster::GroupReading> expert_groups() const override { return groups; }
  std::shared_ptr<const policy::ExpertMap> expert_map(std::size_t) const override {
    return std::make_shared<const policy::ExpertMap>(
        policy::ExpertMap::linear({.experts_of_layer = {0, 3}, .ranks = 2}, 4));
  }
  std::uint64_t expert_traffic(std::size_t, Rank rank, LayerIndex, Rank source,
                               ExpertId expert) const override {
    return static_cast<std::uint64_t>(100 * rank.value() + 10 * source.value() + expert.value());
  }
  Result<std::uint32_t> set_expert_map(std::size_t group, policy::ExpertMap map) override {
    swapped = {group, std::move(map)};
    return std::uint32_t{5};
  }

  std::vector<cluster::GroupReading> groups = [] {
    cluster::GroupReading group;
    group.map_version = 4;
    group.gang.joins = 10;
    group.gang.dummies = 3;
    group.services = {{.engine = EngineId{0}, .rows = 30}, {.engine = EngineId{1}, .rows = 10}};
    cluster::GroupReading other = group;
    other.services = {{.engine = EngineId{2}}, {.engine = EngineId{3}, .alive = false}};
    return std::vector{group, other};
  }();
  std::optional<std::pair<std::size_t, policy::ExpertMap>> swapped;
};

TEST(ExpertEndpoints, DescribesGroups) {
  const FakeInspector inspector;
  const auto json = parse_json(describe_experts(inspector));
  ASSERT_TRUE(json.ok());
  const Json& first = (*json)["groups"][0];
  EXPECT_EQ(first["pace"], "gang");
  EXPECT_EQ(first["map_version"], 4);
  EXPECT_DOUBLE_EQ(first["balancedness"].get<double>(), 20.0 / 30.0);
  EXPECT_EQ(first["rows"][0].size(), 0U);
  EXPECT_EQ(first["rows"][1][2], 2 + 12 + 102 + 112);
  EXPECT_EQ(first["map"]["layers"][1].size(), 3U);
  EXPECT_EQ((*json)["groups"][1]["services"][1]["alive"], false);
}

TEST(ExpertEndpoints, SwapsTheMapOfAGroup) {
  FakeInspector inspector;
  const std::string body =
      R"({"group": 1, "version": 9, "layers": [[], [{"expert": 0, "rank": 0}, {"expert": 1, "rank": 0},
          {"expert": 2, "rank": 0, "fraction": 0.25}, {"expert": 2, "rank": 1, "fraction": 0.75}]]})";
  const auto answer = swap_expert_map(inspector, body);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(*answer, R"({"group":1,"version":5})");
  ASSERT_TRUE(inspector.swapped);
  EXPECT_EQ(inspector.swapped->first, 1U);
  EXPECT_EQ(inspector.swapped->second.shares(LayerIndex{1}, ExpertId{2}).size(), 2U);
}

TEST(ExpertEndpoints, RefusesBodiesThatAreNoMaps) {
  FakeInspector inspector;
  for (const char* body : {"", "{", "[]", "3", R"({"version": 1})",
                           R"({"group": 2, "version": 1, "layers": [[], []]})",
                           R"({"group": -1, "version": 1, "layers": [[], []]})",
                           R"({"group": "a", "version": 1, "layers": [[], []]})",
                           R"({"version": 1, "layers": [[], []]})",
                           R"({"version": 1, "layers": [[], [{"expert": 0, "rank": 9}]]})"}) {
    EXPECT_FALSE(swap_expert_map(inspector, body).ok()) << body;
  }
  EXPECT_FALSE(inspector.swapped);
  inspector.groups.clear();
  EXPECT_FALSE(swap_expert_map(inspector, R"({"version": 1, "layers": []})").ok());
}

TEST(ExpertEndpoints, MetricsHaveASampleForEachEngineOrGroup) {
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
