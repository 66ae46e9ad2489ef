#pragma once

#include <cstddef>
#include <fstream>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "apps/model_flags.h"
#include "apps/parallel_flags.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/trace.h"
#include "cluster/order_log.h"
#include "engine/decision_recorder.h"
#include "engine/routing_recorder.h"
#include "engine/serving_engine.h"
#include "model/forward.h"
#include "sim/serving_cluster.h"

namespace gimbal::apps {

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
  // Writes to the disk what there is, for a process that ends without the destructor.
  void flush();
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

}  // namespace gimbal::apps
