#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/trace.h"
#include "sched/batch_executor.h"
#include "sched/event.h"
#include "sim/event_queue.h"
#include "sim/pass_costs.h"
#include "sim/pass_runner.h"
#include "sim/request_text.h"

namespace gimbal::sim {

// What the executor has to ask of requests, and to whom it answers.
class ExecutorOwner : public RequestText {
 public:
  virtual void on_executor_event(sched::Event event) = 0;
};

// A sched::BatchExecutor that computes nothing: batches take the time that a PassRunner says, stage
// boundaries and all. Tokens are what its owner says. One thread; the collaborators must outlive
// it.
class CostModelExecutor final : public sched::BatchExecutor,
                                public PassListener,
                                public EventTarget {
 public:
  struct Collaborators {
    EventQueue& queue;
    PassRunner& runner;
    const PassCosts& costs;
    ExecutorOwner& owner;
  };
  CostModelExecutor(const Collaborators& collaborators, Rank rank, int vocab_size);
  ~CostModelExecutor() override;
  CostModelExecutor(const CostModelExecutor&) = delete;
  CostModelExecutor& operator=(const CostModelExecutor&) = delete;

  void start(const sched::StepPlan& plan) override;
  void advance(BatchId batch, Cursor until) override;
  void yield(BatchId batch) override;
  void suspend(BatchId batch) override;
  void resume(BatchId batch) override;
  void merge(BatchId into, BatchId from) override;
  void split(BatchId from, std::span<const RequestId> sequences, BatchId to) override;
  void drop(BatchId batch, std::span<const RequestId> sequences) override;
  void finish(BatchId batch) override;
  [[nodiscard]] int layers() const override { return costs_.layers(); }

  // Draws every step; the trace outlives the executor.
  void set_trace(Trace* trace, TraceTrack track) {
    trace_ = trace;
    track_ = track;
  }

  // The batch has failed: it is gone, and nothing is answered of it. False: there is none.
  bool forget(BatchId batch);

  // The device hangs: nothing is answered any more, and whoever steps together with it waits.
  void hang();
  // Nobody waits for it any more.
  void stop();

  // What batches have taken so far, those that have finished.
  struct Totals {
    double attention_ms = 0;  // own layers, and what comes once a step
    double service_ms = 0;
    double wait_ms = 0;
    double distinct = 0;
    std::uint64_t rows = 0;
    std::uint64_t prefill_rows = 0;  // of them
    std::uint64_t steps = 0;
  };
  [[nodiscard]] const Totals& totals() const { return totals_; }

  void reached(PassMember& member) override;
  void on_event(std::uint64_t what) override;

 private:
  struct Row {
    RequestId request;
    std::int32_t position = 0;  // of the first
    std::int32_t rows = 0;
    bool decode = false;
    bool samples = false;
    int topic = 0;
  };
  struct Batch {
    BatchId id;
    bool suspended = false;
    bool finishing = false;
    TimePoint started{};
    std::vector<Row> rows;
    PassMember member;
  };

  [[nodiscard]] Batch& at(BatchId id);
  [[nodiscard]] std::unique_ptr<Batch> new_batch(BatchId id);
  void erase(BatchId id);
  void describe(Batch& batch) const;
  void answer(Batch& batch);

  EventQueue& queue_;
  PassRunner& runner_;
  const PassCosts& costs_;
  ExecutorOwner& owner_;
  const Rank rank_;
  const int vocab_size_;
  bool stopped_ = false;
  std::vector<std::unique_ptr<Batch>> batches_;  // few: one runs, others are parked
  std::vector<std::unique_ptr<Batch>> unused_;
  Totals totals_;
  Trace* trace_ = nullptr;
  TraceTrack track_;
};

}  // namespace gimbal::sim
