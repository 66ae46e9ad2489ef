#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/duration_histogram.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/result.h"
#include "cluster/gang_coordinator.h"
#include "policy/expert_map.h"

namespace gimbal::cluster {

// What a rank's expert service has done since the start.
struct ServiceReading {
  EngineId engine;
  bool alive = true;
  std::uint64_t runs = 0;
  std::uint64_t rows = 0;              // (row, expert) pairs
  std::uint64_t distinct_experts = 0;  // whose weights were read, summed over runs
  Duration busy{};
  std::uint64_t holds = 0;               // (gang step, layer)s that were run as one
  Duration held{};                       // that posts waited in holds, summed
  std::uint64_t bytes_in = 0;            // rows from other ranks
  std::uint64_t bytes_out = 0;           // outputs to other ranks
  DurationHistogram::Reading run_times;  // of runs
  DurationHistogram::Reading waits;  // from a post to its run: the longest of each expert and run
  DurationHistogram::Reading hold_times;  // of posts in holds, part of those waits
};

// A group of engines that share experts.
struct GroupReading {
  GangPace pace = GangPace::kGang;
  std::uint32_t map_version = 0;
  GangCounters gang;
  std::vector<ServiceReading> services;  // by rank
};

// Experts that engines share, as seen from outside. Thread-safe.
class ExpertInspector {
 public:
  virtual ~ExpertInspector() = default;

  // None where no engine shares experts.
  [[nodiscard]] virtual std::vector<GroupReading> expert_groups() const = 0;
  // Requires: a group's index.
  [[nodiscard]] virtual std::shared_ptr<const policy::ExpertMap> expert_map(
      std::size_t group) const = 0;  // owners: whoever reads it
  // Rows that the rank's service has run, T[layer][source][expert].
  // Requires: all in range.
  [[nodiscard]] virtual std::uint64_t expert_traffic(std::size_t group, Rank rank, LayerIndex layer,
                                                     Rank source, ExpertId expert) const = 0;
  // From now on rows of the group are routed by this map. Returns its version. kInvalidArgument:
  // another shape, or a rank that is gone.
  [[nodiscard]] virtual Result<std::uint32_t> set_expert_map(std::size_t group,
                                                             policy::ExpertMap map) = 0;
};

}  // namespace gimbal::cluster
