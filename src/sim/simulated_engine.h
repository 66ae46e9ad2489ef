#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "cluster/engine.h"
#include "kv/kv_cache.h"
#include "sched/event.h"
#include "sched/event_recorder.h"
#include "sched/step_loop.h"
#include "sim/cost_model_executor.h"
#include "sim/event_queue.h"
#include "sim/pass_runner.h"

namespace gimbal::sim {

class SimulatedEngine;

// Who hears what an engine says. May submit to engines once it has read `outputs`, which hold until
// then.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void on_outputs(SimulatedEngine& engine, sched::Outputs& outputs) = 0;
};

// The group that an engine is a rank of.
class EngineSeat {
 public:
  virtual ~EngineSeat() = default;
  // The engine's scheduler has said this of its steps. Must not call the engine back.
  virtual void on_steps(SimulatedEngine& engine, const sched::Outputs& outputs) = 0;
  // Everybody has read what the engine said.
  virtual void on_settled() = 0;
};

struct SimulatedEngineOptions {
  EngineId id;  // of the cluster
  Rank rank;    // of its group
  sched::StepLoopOptions scheduler;
};

// One engine on virtual time: the production scheduler (sched::StepLoop) on a CostModelExecutor.
// What it publishes is made when somebody asks, of the state since its last step or arrival; so it
// costs nothing where nobody does. One thread; the collaborators must outlive it.
class SimulatedEngine final : private ExecutorOwner {
 public:
  struct Collaborators {
    EventQueue& queue;
    PassRunner& runner;
    const PassCosts& costs;
    const RequestText& text;
    EngineSeat& group;
    EngineObserver& cluster;
    sched::EventRecorder* recorder = nullptr;
    Trace* trace = nullptr;  // draws the steps
  };

  // Errors: as sched::StepLoop::make.
  [[nodiscard]] static Result<std::unique_ptr<SimulatedEngine>> make(
      const SimulatedEngineOptions& options, const Collaborators& collaborators);
  ~SimulatedEngine() override = default;

  [[nodiscard]] EngineId id() const { return options_.id; }
  [[nodiscard]] Rank rank() const { return options_.rank; }

  // Takes the group, or says in outputs why not. Requires: accepts().
  void submit(std::vector<sched::Request> group);
  void cancel(RequestId request);
  // The gang has answered.
  void start_step(const sched::StartStep& start);

  // Whether it takes requests: it has started, does not drain and has not failed.
  [[nodiscard]] bool accepts() const { return !failed_ && !draining_; }
  void set_draining(bool draining) { draining_ = draining; }
  [[nodiscard]] bool failed() const { return failed_; }
  // It computes and says nothing any more. A gang step that it is part of hangs until bury().
  void fail();
  void bury() { executor_.stop(); }

  // As it was after the last event that changed anything.
  [[nodiscard]] const cluster::EngineSnapshot& snapshot();
  [[nodiscard]] std::uint64_t steps() const { return executor_.totals().steps; }
  [[nodiscard]] std::uint64_t prefill_rows() const { return executor_.totals().prefill_rows; }
  [[nodiscard]] std::uint64_t version() const { return version_; }
  // Changes of the prefix cache that nobody has taken yet.
  [[nodiscard]] std::span<const kv::PrefixEvent> prefix_events() const {
    return loop_->prefix_events();
  }
  void clear_prefix_events() { loop_->clear_prefix_events(); }

  [[nodiscard]] const sched::StepLoop& loop() const { return *loop_; }
  [[nodiscard]] const CostModelExecutor& executor() const { return executor_; }

 private:
  SimulatedEngine(const SimulatedEngineOptions& options, const Collaborators& collaborators);
  void handle(sched::Event event);
  [[nodiscard]] int topic_of(RequestId request) const override {
    return with_.text.topic_of(request);
  }
  [[nodiscard]] SaidToken token_at(RequestId request, std::int64_t position,
                                   int vocab_size) const override {
    return with_.text.token_at(request, position, vocab_size);
  }
  void on_executor_event(sched::Event event) override { handle(std::move(event)); }

  SimulatedEngineOptions options_;
  Collaborators with_;
  CostModelExecutor executor_;
  std::unique_ptr<sched::StepLoop> loop_;
  bool failed_ = false;
  bool draining_ = false;
  std::uint64_t version_ = 1;
  TimePoint changed_{};
  cluster::EngineSnapshot snapshot_;
};

}  // namespace gimbal::sim
