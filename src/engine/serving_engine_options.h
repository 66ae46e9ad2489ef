#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "engine/decision_recorder.h"
#include "engine/life_signs.h"
#include "engine/routing_recorder.h"
#include "kernels/isa.h"
#include "model/forward.h"
#include "sched/step_loop_options.h"

namespace gimbal::engine {

struct ServingEngineOptions {
  // What the scheduler does. Filled in from the model: vocab_size, experts; from kv_cache_bytes:
  // kv_pages; where 0: max_model_len, from the model's context.
  sched::StepLoopOptions scheduler;
  // Memory for keys and values. 0: a quarter of what is available, at most 1 GiB, and at least
  // enough for one request of max_model_len; of that a share, where several engines start.
  std::int64_t kv_cache_bytes = 0;
  int engines = 1;  // that share the machine; >= 1
  kernels::Isa isa = kernels::best_isa();
  // Writes every event that the scheduler sees to this file; empty: no recording.
  std::string record_path;
  // Binds the engine's thread to the first CPU of its pool: for a pool that no other engine uses.
  bool pin = true;
  int nice = 0;  // of the engine's thread, which computes too
  // In a group: how long the thread looks out for outputs before it sleeps. Only where each rank
  // has a CPU of its own.
  Duration spin{};
  // Among several: an engine whose thread gives no sign of life for that long is declared dead.
  Duration dead_after = std::chrono::seconds(10);
  // The engines that look after each other, where they share no experts (else their group has
  // this): this one's place is its id. Null: nobody does. Outlives the engine.
  LifeSigns* peers = nullptr;
  // Draws what the engine does; null: nothing. Outlives the engine.
  Trace* trace = nullptr;
  // Records the router's choices; null: not. Outlives the engine.
  RoutingRecorder* routing = nullptr;
  // Keeps decisions, of order and of several engines' dispatcher; null: not. Outlives the engine.
  DecisionRecorder* decisions = nullptr;
  EngineId id{0};  // among the engines of this process
};

// Fills in what follows from the model and the machine. kInvalidArgument names the option at fault:
// one out of range, or a KV cache too small for one request of max_model_len.
[[nodiscard]] Result<void> complete_options(const model::Model& model,
                                            ServingEngineOptions& options);

}  // namespace gimbal::engine
