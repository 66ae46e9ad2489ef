#pragma once

#include <cstdint>
#include <string>

#include "apps/dispatch_flags.h"
#include "apps/expert_flags.h"
#include "apps/scheduler_flags.h"
#include "base/result.h"
#include "engine/serving_engine.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// How many engines serve, by which preset, and what is written down of it.
struct ParallelFlags {
  std::string preset;  // empty: the program's defaults
  ExpertFlags experts;
  DispatchFlags dispatch;
  std::string trace_path;    // empty: no trace
  std::string routing_path;  // empty: no routing record
  std::int64_t trace_events = 1'000'000;

  [[nodiscard]] int engines() const { return experts.data_parallel_size; }

  void add_to(CLI::App& command);
  // Says in the log which of the command line's options so few engines make nothing of. Errors:
  // experts shared among more engines than there are.
  [[nodiscard]] Result<void> check_engines(const CLI::App& command) const;
  // Takes the preset's columns for what the command line does not give. Errors: an unknown preset.
  // What takes no effect of the preset is said in the log.
  [[nodiscard]] Result<void> apply_preset(const CLI::App& command, SchedulerFlags& scheduler);
  // Says in the log which of the command line's options the chosen rules make nothing of. Call it
  // after apply_preset.
  void warn_of_unused(const CLI::App& command, const SchedulerFlags& scheduler) const;
  // Checks what follows from several flags; call after the engine's options are complete.
  [[nodiscard]] Result<void> complete(const engine::ServingEngineOptions& engine);
};

}  // namespace gimbal::apps
