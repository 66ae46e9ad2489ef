#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cluster/dispatcher.h"
#include "cluster/expert_pressure.h"
#include "engine/engine_fleet.h"

namespace gimbal::engine {

// Brings what is known of the experts to the dispatcher: what services have counted, as expert
// pressure ρ of each engine (cluster/expert_pressure.h), and which map each engine's group has. One
// thread at a time. The fleet must outlive it.
class PressureFeed {
 public:
  PressureFeed(const EngineFleet& fleet, int layers);

  // Looks at the counters, where enough steps have passed, and tells what is known.
  void fetch(cluster::Dispatcher& dispatcher);

 private:
  struct Group {
    cluster::ExpertPressure pressure;
    std::uint32_t map_version = 0;
    std::optional<std::uint32_t> told_version;  // of the map that the dispatcher knows
    std::uint64_t noted_steps = 0;
    bool noted = false;
  };

  void note(std::size_t index, Group& group);
  void tell_map(cluster::Dispatcher& dispatcher, std::size_t index, Group& group);
  void tell(cluster::Dispatcher& dispatcher, EngineId engine, std::optional<double> pressure);

  const EngineFleet& fleet_;
  int layers_;
  std::vector<Group> groups_;
  std::vector<std::optional<double>> told_;         // by engine
  std::vector<cluster::EngineSnapshot> snapshots_;  // work space
  std::vector<std::uint64_t> rows_;                 // [layers, ranks], work space
  std::vector<std::uint64_t> distinct_;             // [layers, ranks], work space
};

}  // namespace gimbal::engine
