#include "apps/started_engines.h"

#include <utility>

#include "engine/data_parallel_engine.h"

namespace gimbal::apps {

Result<StartedEngines> start_engines(const ParallelFlags& flags, const ModelFlags& model_flags,
                                     const LoadedModel& loaded,
                                     const engine::ServingEngineOptions& options,
                                     cluster::TokenSink& sink) {
  StartedEngines started;
  if (flags.engines() == 1) {
    GIMBAL_ASSIGN_OR_RETURN(
        auto one, engine::ServingEngine::start(*loaded.model, options, *loaded.pool, sink));
    started.drain = [raw = one.get()] { raw->drain(); };
    started.hangs = [] { return false; };
    started.options = &one->options();
    started.engine = std::move(one);
    return started;
  }
  engine::DataParallelOptions several_options{.dispatch = flags.dispatch.options,
                                              .exchange_ms_per_token = flags.dispatch.exchange_ms};
  several_options.fleet.engine = options;
  several_options.fleet.engine.dead_after = from_ms(flags.experts.dead_after * 1000.0);
  several_options.fleet.threads = model_flags.threads;
  several_options.fleet.pin = !model_flags.no_pin;
  several_options.fleet.nice = model_flags.nice;
  GIMBAL_RETURN_IF_ERROR(flags.experts.apply(loaded.model->config(), several_options.fleet));
  GIMBAL_ASSIGN_OR_RETURN(auto several, engine::DataParallelEngine::start(
                                            *loaded.model, several_options, *loaded.pool, sink));
  started.drain = [raw = several.get()] { raw->drain(); };
  started.hangs = [raw = several.get()] { return raw->hangs(); };
  started.options = &several->engine_options();
  started.inspector = several.get();
  started.engine = std::move(several);
  return started;
}

}  // namespace gimbal::apps
