#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "sched/batch_executor.h"
#include "sched/event.h"
#include "sched/scheduler_counters.h"
#include "sched/step_loop_options.h"

namespace gimbal::sched {

class EventRecorder;

// The serving state machine of one engine: takes events, drives the BatchExecutor, says what was
// generated. Owns the requests, their queues and the logical KV cache. It has no thread and no
// clock; the same events at the same times give the same commands and outputs.
//
// One batch runs at a time: it is formed when none runs, gets a lease for its whole forward pass,
// and is finished there. A cancelled member makes it yield; it leaves the batch at the next stage
// boundary, its pages are free, and the others go on.
//
// Thread rule: one thread. Refers to the executor and the recorder, which must outlive it.
class StepLoop {
 public:
  // `recorder` may be null. Options out of range are kInvalidArgument and name the option.
  [[nodiscard]] static Result<std::unique_ptr<StepLoop>> make(const StepLoopOptions& options,
                                                              BatchExecutor& executor,
                                                              EventRecorder* recorder = nullptr);
  ~StepLoop();
  StepLoop(const StepLoop&) = delete;
  StepLoop& operator=(const StepLoop&) = delete;

  // Takes events that happened by `now`, in order, then forms a batch if none runs and there is
  // work. Events that arrived together are best given together: a batch is formed once, of all.
  // The executor is called from here; it answers by later events. Returns what is to be told, valid
  // until the next call; the caller may move from it. A refused request is one of
  //   kInvalidArgument    prompt and max_tokens exceed max_model_len, a token is not in the
  //                       vocabulary, …
  //   kResourceExhausted  the queue is full (see max_waiting_prefill_tokens)
  //   kUnavailable        draining
  // Requires: `now` never falls; request ids are not reused.
  Outputs& on(TimePoint now, std::span<Event> events);
  Outputs& on(TimePoint now, Event event) { return on(now, std::span<Event>(&event, 1)); }

  // Whether no request is known and no batch runs.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] bool draining() const;

  [[nodiscard]] SchedulerCounters counters() const;
  [[nodiscard]] const StepLoopOptions& options() const;

  // The queue's bound as it is now. A request is refused when the prompt tokens that wait and its
  // own, after prefix hits, exceed it; an empty queue takes any request. Another thread that
  // refuses early keeps its own copy of this and of counters().waiting_prefill_tokens.
  [[nodiscard]] std::int64_t max_waiting_prefill_tokens() const;

 private:
  class State;
  explicit StepLoop(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace gimbal::sched
