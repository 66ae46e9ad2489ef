#include "apps/parallel_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <utility>

#include "base/log.h"
#include "engine/data_parallel_engine.h"
#include "policy/preset.h"

namespace gimbal::apps {
namespace {

constexpr int kMostEngines = 256;

bool given(const CLI::App& command, const char* name) {
  return command.get_option(name)->count() > 0;
}

}  // namespace

void ParallelFlags::add_to(CLI::App& command) {
  command
      .add_option("--data-parallel-size", data_parallel_size,
                  "engines, each with its own KV cache; weights are in memory once")
      ->check(CLI::Range(1, kMostEngines))
      ->capture_default_str();
  command.add_option("--preset", preset,
                     fmt::format("a system to serve as: {}; single options override it",
                                 fmt::join(policy::preset_names(), ", ")));
  dispatch.add_to(command);
}

Result<void> ParallelFlags::apply_preset(const CLI::App& command,
                                         engine::ServingEngineOptions& engine,
                                         std::string& promote_after) {
  if (preset.empty()) return {};
  GIMBAL_ASSIGN_OR_RETURN(const policy::Preset chosen, policy::find_preset(preset));
  sched::StepLoopOptions& scheduler = engine.scheduler;
  if (!given(command, "--order")) scheduler.order = chosen.order;
  if (!given(command, "--batch-former")) scheduler.former = chosen.former;
  if (chosen.promote_after_s && !given(command, "--promote-after"))
    promote_after = fmt::format("{}", *chosen.promote_after_s);
  if (chosen.batch_tokens && !given(command, "--max-num-batched-tokens"))
    scheduler.max_num_batched_tokens = *chosen.batch_tokens;
  if (chosen.max_sequences && !given(command, "--max-num-seqs"))
    scheduler.max_num_seqs = *chosen.max_sequences;
  dispatch.apply(chosen, command);
  if (const std::string gaps = policy::preset_gaps(chosen); !gaps.empty()) log_warning("{}", gaps);
  return {};
}

Result<void> ParallelFlags::complete(const engine::ServingEngineOptions& engine) {
  GIMBAL_RETURN_IF_ERROR(dispatch.complete(engine.scheduler.max_num_batched_tokens));
  if (data_parallel_size == 1 && !dispatch.decisions_path.empty()) {
    return invalid_argument("--decisions needs --data-parallel-size of at least 2, is 1",
                            "decisions");
  }
  return {};
}

Result<StartedEngines> start_engines(const ParallelFlags& flags, const model::Model& model,
                                     const engine::ServingEngineOptions& options, ThreadPool& pool,
                                     cluster::TokenSink& sink) {
  StartedEngines started;
  if (flags.data_parallel_size == 1) {
    GIMBAL_ASSIGN_OR_RETURN(auto one, engine::ServingEngine::start(model, options, pool, sink));
    started.drain = [raw = one.get()] { raw->drain(); };
    started.options = &one->options();
    started.engine = std::move(one);
    return started;
  }
  GIMBAL_ASSIGN_OR_RETURN(auto several, engine::DataParallelEngine::start(
                                            model,
                                            {.engines = flags.data_parallel_size,
                                             .engine = options,
                                             .dispatch = flags.dispatch.options,
                                             .decisions_path = flags.dispatch.decisions_path},
                                            pool, sink));
  started.drain = [raw = several.get()] { raw->drain(); };
  started.options = &several->engine_options();
  started.inspector = several.get();
  started.engine = std::move(several);
  return started;
}

}  // namespace gimbal::apps
