#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cluster/expert_inspector.h"

namespace gimbal::cluster {

// Two groups of two engines over a model of a dense and a MoE layer with three experts.
class FakeInspector final : public ExpertInspector {
 public:
  std::vector<GroupReading> expert_groups() const override { return groups; }
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

  std::vector<GroupReading> groups = [] {
    GroupReading group;
    group.map_version = 4;
    group.gang.joins = 10;
    group.gang.dummies = 3;
    group.services = {{.engine = EngineId{0}, .rows = 30}, {.engine = EngineId{1}, .rows = 10}};
    GroupReading other = group;
    other.services = {{.engine = EngineId{2}}, {.engine = EngineId{3}, .alive = false}};
    return std::vector{group, other};
  }();
  std::optional<std::pair<std::size_t, policy::ExpertMap>> swapped;
};

}  // namespace gimbal::cluster
