#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "cluster/expert_inspector.h"
#include "sim/serving_cluster.h"

namespace gimbal::live {

// The shared experts of a simulated cluster, as those of real engines are seen. Rows are those that
// the simulation expects: it knows no single choice. Its services have no runs of their own, no
// holds and no bytes: these are 0. Thread-safe: it takes the lock that guards the cluster.
class LiveExperts final : public cluster::ExpertInspector {
 public:
  // Both must outlive it.
  LiveExperts(sim::ServingCluster& cluster, std::mutex& mutex);

  [[nodiscard]] std::vector<cluster::GroupReading> expert_groups() const override;
  [[nodiscard]] std::shared_ptr<const policy::ExpertMap> expert_map(
      std::size_t group) const override;
  [[nodiscard]] std::uint64_t expert_traffic(std::size_t group, Rank rank, LayerIndex layer,
                                             Rank source, ExpertId expert) const override;
  [[nodiscard]] Result<std::uint32_t> set_expert_map(std::size_t group,
                                                     policy::ExpertMap map) override;

 private:
  [[nodiscard]] sim::SimulatedGroup& group_at(std::size_t group) const;

  sim::ServingCluster& cluster_;
  std::mutex& mutex_;
  std::vector<std::size_t> groups_;  // of the cluster: those that share experts
};

}  // namespace gimbal::live
