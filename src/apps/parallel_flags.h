#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "apps/dispatch_flags.h"
#include "apps/expert_flags.h"
#include "apps/model_flags.h"
#include "apps/scheduler_flags.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/trace.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "cluster/order_log.h"
#include "engine/decision_recorder.h"
#include "engine/routing_recorder.h"
#include "engine/serving_engine.h"
#include "model/forward.h"
#include "sim/serving_cluster.h"

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
  // Checks what follows from several flags; call after the engine's options are complete.
  [[nodiscard]] Result<void> complete(const engine::ServingEngineOptions& engine);
};

// What engines write while they serve. Must outlive them.
class Recordings {
 public:
  // Opens the files, but for that of --record-routing; `origin` is time 0 of the trace. Errors name
  // the flag.
  [[nodiscard]] static Result<std::unique_ptr<Recordings>> open(const ParallelFlags& flags,
                                                                TimePoint origin);
  // Opens the file of --record-routing.
  [[nodiscard]] Result<void> open_routing(const ParallelFlags& flags, const ModelFlags& model_flags,
                                          const model::Model& model);
  ~Recordings();  // ends the files; says in the log what could not be written
  void give_to(engine::ServingEngineOptions& engine);
  // `order`: of the cluster's engines.
  void give_to(sim::SimulatedClusterOptions& cluster, const cluster::OrderRule& order);
  [[nodiscard]] const cluster::OrderInspector& orders() const { return *decisions_; }

 private:
  static constexpr std::size_t kMostOrders = 10'000;  // kept for /debug/decisions

  Recordings() = default;
  void flush_now_and_then(std::stop_token stop);

  std::string trace_path_;
  std::ofstream trace_file_;
  std::unique_ptr<Trace> trace_;
  std::unique_ptr<engine::RoutingRecorder> routing_;
  std::unique_ptr<engine::DecisionRecorder> decisions_;
  std::jthread flusher_;
};

// One engine or several, as the rest of the program uses them.
struct StartedEngines {
  std::unique_ptr<cluster::Engine> engine;
  const cluster::Inspector* inspector = nullptr;          // of `engine`; null: one
  std::function<void()> drain;                            // accepts nothing from then on
  const engine::ServingEngineOptions* options = nullptr;  // of each, filled in
};

// `model_flags`: threads and pinning. Errors name the flag.
[[nodiscard]] Result<StartedEngines> start_engines(const ParallelFlags& flags,
                                                   const ModelFlags& model_flags,
                                                   const LoadedModel& loaded,
                                                   const engine::ServingEngineOptions& options,
                                                   cluster::TokenSink& sink);

}  // namespace gimbal::apps
