#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "kv/kv_cache.h"
#include "policy/batch_former.h"
#include "policy/request_order.h"
#include "policy/step_time_model.h"
#include "sched/batch_executor.h"
#include "sched/event.h"
#include "sched/prefill_rate.h"
#include "sched/request_table.h"
#include "sched/scheduler_counters.h"
#include "sched/step_loop_options.h"
#include "sched/step_planner.h"

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
// An engine that shares its experts asks before each step (options.asks_before_steps): it says what
// it would run, and forms the batch when it is told to start, of all that has arrived until then.
//
// Thread rule: one thread. Refers to the executor and the recorder, which must outlive it.
class StepLoop {
 public:
  // `recorder` may be null. Options out of range are kInvalidArgument and name the option.
  [[nodiscard]] static Result<std::unique_ptr<StepLoop>> make(const StepLoopOptions& options,
                                                              BatchExecutor& executor,
                                                              EventRecorder* recorder = nullptr);
  StepLoop(const StepLoop&) = delete;
  StepLoop& operator=(const StepLoop&) = delete;

  // Takes events that happened by `now`, in order, then forms a batch if none runs and there is
  // work. Events that arrived together are best given together: a batch is formed once, of all.
  // The executor is called from here; it answers by later events. Returns what is to be told, valid
  // until the next call; the caller may move from it. A group is refused whole, each of its
  // requests with the same error, one of
  //   kInvalidArgument    prompt and max_tokens exceed max_model_len, a token is not in the
  //                       vocabulary, …
  //   kResourceExhausted  the queue is full (see max_waiting_prefill_tokens)
  //   kUnavailable        draining
  // Requires: `now` never falls; request ids are not reused.
  Outputs& on(TimePoint now, std::span<Event> events);
  Outputs& on(TimePoint now, Event event) { return on(now, std::span<Event>(&event, 1)); }

  // Whether no request is known; then no batch runs either.
  [[nodiscard]] bool idle() const { return table_.size() == 0; }
  [[nodiscard]] bool draining() const { return draining_; }

  [[nodiscard]] SchedulerCounters counters() const;
  [[nodiscard]] const StepLoopOptions& options() const { return options_; }

  // Changes of the prefix cache since the last clear, with options().record_prefix_events.
  [[nodiscard]] std::span<const kv::PrefixEvent> prefix_events() const { return cache_.events(); }
  void clear_prefix_events() { cache_.clear_events(); }

  // The queue's bound as it is now. A group is refused when the prompt tokens that wait and its
  // own, after prefix hits and with what its members share counted once, exceed it; an empty queue
  // takes any group. Another thread that refuses early keeps its own copy of this and of
  // counters().waiting_prefill_tokens.
  [[nodiscard]] std::int64_t max_waiting_prefill_tokens() const;

 private:
  enum class BatchState : std::uint8_t {
    kNone,
    kRunning,    // holds a lease, to the end of its forward pass
    kFinishing,  // its tokens are being chosen
  };

  struct Policies {
    std::unique_ptr<policy::RequestOrder> order;
    std::unique_ptr<policy::BatchFormer> former;
  };
  StepLoop(const StepLoopOptions& options, Policies policies, BatchExecutor& executor,
           EventRecorder* recorder);

  void handle(SubmitGroup& event);
  void handle(const CancelRequest& event);
  void handle(const SetDraining& event);
  void handle(const StartStep& event);
  void handle(const StageReached& event);
  void handle(StepFinished& event);
  void handle(const StepFailed& event);

  [[nodiscard]] Result<void> check(const Request& request) const;
  void ask();
  void take_orders();
  void start_step();
  void end_permission(bool declined);
  void drop_cancelled();
  void take_result(const SequenceStep& step, SequenceResult& result);
  [[nodiscard]] policy::StepShape shape_of_plan() const;
  void note_times(const StepFinished& event);
  [[nodiscard]] policy::PrefillCost prefill_cost() const;
  void append_token(Sequence& sequence, TokenId token);
  [[nodiscard]] static std::vector<TokenLogprobs> untold_logprobs(Sequence& sequence, int position,
                                                                  SequenceResult& result);
  void end(Sequence& sequence, FinishReason reason, std::string error = {});
  TokenNews& tell(const Sequence& sequence);

  const StepLoopOptions options_;
  const Policies policies_;
  BatchExecutor& executor_;
  EventRecorder* const recorder_;

  TimePoint now_{};
  bool draining_ = false;
  RequestTable table_;
  kv::KvCache cache_;
  policy::StepTimeModel step_times_;
  StepPlanner planner_;
  PrefillRate prefill_rate_;
  StepPlan plan_;              // of the batch that runs
  bool lost_members_ = false;  // some of it left in mid-pass
  bool cancels_ = false;       // some of it are cancelled
  BatchState batch_state_ = BatchState::kNone;
  bool yielding_ = false;
  std::uint64_t steps_started_ = 0;
  bool asking_ = false;                  // an intent is unanswered
  bool more_came_ = false;               // requests, since the last intent
  std::optional<StartStep> permission_;  // the answer, until its step has ended
  bool used_ = false;                    // its step has started
  SchedulerCounters totals_;             // its sums since the start
  Outputs outputs_;
  std::vector<RequestId> dropped_;  // work space
};

}  // namespace gimbal::sched
