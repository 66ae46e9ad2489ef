#pragma once

#include <functional>
#include <memory>
#include <string>

#include "apps/dispatch_flags.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "engine/serving_engine.h"
#include "model/forward.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// How many engines serve, and by which preset.
struct ParallelFlags {
  int data_parallel_size = 1;
  std::string preset;  // empty: the program's defaults
  DispatchFlags dispatch;

  void add_to(CLI::App& command);
  // Takes the preset's columns for what the command line does not give. Errors: an unknown preset.
  [[nodiscard]] Result<void> apply_preset(const CLI::App& command,
                                          engine::ServingEngineOptions& engine,
                                          std::string& promote_after);
  // Checks what follows from several flags; call after the engine's options are complete.
  [[nodiscard]] Result<void> complete(const engine::ServingEngineOptions& engine);
};

// One engine or several, as the rest of the program uses them.
struct StartedEngines {
  std::unique_ptr<cluster::Engine> engine;
  const cluster::Inspector* inspector = nullptr;          // of `engine`; null: one
  std::function<void()> drain;                            // accepts nothing from then on
  const engine::ServingEngineOptions* options = nullptr;  // of each, filled in
};

[[nodiscard]] Result<StartedEngines> start_engines(const ParallelFlags& flags,
                                                   const model::Model& model,
                                                   const engine::ServingEngineOptions& options,
                                                   ThreadPool& pool, cluster::TokenSink& sink);

}  // namespace gimbal::apps
