#pragma once

#include <vector>

#include "base/clock.h"
#include "policy/prefill_cost.h"
#include "policy/request_order.h"
#include "sched/aging_tuner.h"
#include "sched/class_queues.h"
#include "sched/order_decision.h"
#include "sched/prefix_lookup.h"
#include "sched/request_table.h"
#include "sched/step_loop_options.h"

namespace gimbal::sched {

// The order in which the sequences of one engine wait: gives each its key in the queue of its class
// when it is queued, moves a of sjf-aging where that is asked for (aging_auto), and says where
// sequences were put (report_order).
//
// One thread. Refers to the collaborators, which must outlive it.
class WaitingOrder {
 public:
  struct Collaborators {
    const policy::RequestOrder& order;
    RequestTable& table;
    const PrefixLookup& prefixes;
  };

  WaitingOrder(const StepLoopOptions& options, const Collaborators& collaborators);

  // Queues a new sequence, now; `cost` freezes its job size, for which `ahead`, the one before it
  // in its group, does not count: choices of one prompt keep one rank.
  void enqueue(Sequence& sequence, TimePoint now, const policy::PrefillCost& cost,
               const Sequence* ahead);
  // Queues a sequence again that has lost its pages, with its old rank.
  void requeue(Sequence& sequence, OrderReason reason) { push(sequence, reason, nullptr); }
  // A step is formed: time has come to `now`, and a moves if it is time to.
  void begin_step(TimePoint now);
  // Takes a sequence out of its queue: because it is admitted, or because it ends.
  void take_to_admit(Sequence& sequence);
  void erase(const Sequence& sequence) { queues_.erase(sequence); }

  // What became of a sequence: admitted for the first time; computed up to `computed`; ended.
  void note_admitted(const Sequence& sequence, TimePoint now);
  void note_computed(const Sequence& sequence, int computed, TimePoint now);
  void note_end(const Sequence& sequence, TimePoint now);

  // Moves the ordering decisions made since the last call to the end of `to`, with report_order.
  void take_decisions(std::vector<OrderDecision>& to);
  // a of sjf-aging, as it is now for a class.
  [[nodiscard]] double aging(RequestClass request_class) const;
  [[nodiscard]] const ClassQueues& queues() const { return queues_; }

 private:
  [[nodiscard]] AgingTuner* tuner(RequestClass request_class);
  [[nodiscard]] policy::OrderedRequest ordered(const Sequence& sequence) const;
  void push(Sequence& sequence, OrderReason reason, const Sequence* ahead);
  void note_order(Sequence& sequence, OrderReason reason);
  void note_move(Sequence& sequence);

  const StepLoopOptions& options_;
  const policy::RequestOrder& order_;
  RequestTable& table_;
  const PrefixLookup& prefixes_;
  ClassQueues queues_;
  std::vector<AgingTuner> tuners_;  // by class; none unless a moves
  TimePoint now_{};                 // of the last step or arrival, and
  Duration median_wait_{};          // of the queues then: admissions of the step move it
  std::vector<OrderDecision> decisions_;
};

}  // namespace gimbal::sched
