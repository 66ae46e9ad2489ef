#pragma once

#include <functional>
#include <memory>

#include "apps/model_flags.h"
#include "apps/parallel_flags.h"
#include "base/result.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "engine/serving_engine.h"

namespace gimbal::apps {

// One engine or several, as the rest of the program uses them.
struct StartedEngines {
  std::unique_ptr<cluster::Engine> engine;
  const cluster::Inspector* inspector = nullptr;  // of `engine`; null: one
  std::function<void()> drain;                    // accepts nothing from then on
  std::function<bool()> hangs;  // a thread of it may never end, nor would destroying it
  const engine::ServingEngineOptions* options = nullptr;  // of each, filled in
};

// `model_flags`: threads and pinning. Errors name the flag.
[[nodiscard]] Result<StartedEngines> start_engines(const ParallelFlags& flags,
                                                   const ModelFlags& model_flags,
                                                   const LoadedModel& loaded,
                                                   const engine::ServingEngineOptions& options,
                                                   cluster::TokenSink& sink);

}  // namespace gimbal::apps
