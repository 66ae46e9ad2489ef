#include "live/live_experts.h"

#include <cmath>
#include <utility>

namespace gimbal::live {
namespace {

std::uint64_t counted(double value) {
  return static_cast<std::uint64_t>(std::llround(value));
}

}  // namespace

LiveExperts::LiveExperts(sim::ServingCluster& cluster, std::mutex& mutex)
    : cluster_(cluster), mutex_(mutex) {
  for (std::size_t i = 0; i < cluster.groups().size(); ++i) {
    if (cluster.groups()[i]->shares_experts()) groups_.push_back(i);
  }
}

sim::SimulatedGroup& LiveExperts::group_at(std::size_t group) const {
  return *cluster_.groups()[groups_[group]];
}

std::vector<cluster::GroupReading> LiveExperts::expert_groups() const {
  const std::lock_guard lock(mutex_);
  std::vector<cluster::GroupReading> readings;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    sim::SimulatedGroup& group = group_at(g);
    cluster::GroupReading& reading = readings.emplace_back();
    reading.pace = group.pace();
    reading.map_version = group.map().version();
    if (const auto gang = group.gang_counters()) reading.gang = *gang;
    const std::vector<sim::PassRunner::Load>& loads = group.runner().loads();
    const std::size_t devices = loads.size() / static_cast<std::size_t>(group.ranks());
    for (int rank = 0; rank < group.ranks(); ++rank) {
      const sim::SimulatedEngine& engine = group.engine(Rank{rank});
      sim::PassRunner::Load sum;
      for (std::size_t i = 0; i < devices; ++i) {
        const sim::PassRunner::Load& load = loads[static_cast<std::size_t>(rank) * devices + i];
        sum.rows += load.rows;
        sum.distinct += load.distinct;
        sum.service_ms += load.service_ms;
      }
      reading.services.push_back({.engine = engine.id(),
                                  .alive = !engine.failed(),
                                  .rows = counted(sum.rows),
                                  .distinct_experts = counted(sum.distinct),
                                  .busy = from_ms(sum.service_ms)});
    }
  }
  return readings;
}

std::shared_ptr<const policy::ExpertMap> LiveExperts::expert_map(std::size_t group) const {
  const std::lock_guard lock(mutex_);
  return std::make_shared<const policy::ExpertMap>(group_at(group).map());
}

// Of each row that the source ran the layer chooses an expert with its probability, whose rows are
// divided as the map says now.
std::uint64_t LiveExperts::expert_traffic(std::size_t group, Rank rank, LayerIndex layer,
                                          Rank source, ExpertId expert) const {
  const std::lock_guard lock(mutex_);
  const sim::SimulatedGroup& from = group_at(group);
  if (source.value() >= from.ranks()) return 0;  // a further device of a rank
  double fraction = 0;
  for (const policy::ExpertShare& share : from.map().shares(layer, expert))
    fraction += share.rank == rank ? share.fraction : 0;
  if (fraction == 0) return 0;
  const auto chosen = from.routing().inclusion(layer, 0);
  return counted(static_cast<double>(from.engine(source).executor().totals().rows) * fraction *
                 static_cast<double>(chosen[static_cast<std::size_t>(expert.value())]));
}

Result<std::uint32_t> LiveExperts::set_expert_map(std::size_t group, policy::ExpertMap map) {
  const std::lock_guard lock(mutex_);
  return group_at(group).set_map(std::move(map));
}

}  // namespace gimbal::live
