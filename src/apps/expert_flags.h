#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "engine/engine_fleet.h"
#include "model_config/model_config.h"
#include "policy/preset.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// What commands with several engines ask on their command line: how engines share experts, and who
// computes for them.
struct ExpertFlags {
  int data_parallel_size = 1;
  int expert_parallel_size = 0;
  std::string rank_workers = "shared";
  std::string expert_pace = "gang";
  std::optional<double> gang_patience;  // nullopt: by rank workers
  std::string gang_planner;             // empty: by rank_workers
  double gang_hold_steps = cluster::GangCoordinatorOptions().hold_steps;
  std::string expert_queues = "run-all";
  double expert_quantum_ms = 1;
  int expert_max_defer = 8;
  double dead_after = 10;        // seconds
  std::string expert_map;        // a file; empty: linear
  std::string exchange_profile;  // a file; empty: no imposed delays

  void add_to(CLI::App& command);
  // Takes the preset's column for the pace, if the command line does not give it.
  void apply(const policy::Preset& preset, const CLI::App& command);
  [[nodiscard]] policy::ExpertQueueRule queue_rule() const;
  // Fills in all of `fleet` but its engines' options and the threads. Errors name the flag; files
  // are read.
  [[nodiscard]] Result<void> apply(const model_config::ModelConfig& config,
                                   engine::EngineFleetOptions& fleet) const;
};

}  // namespace gimbal::apps
