#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "kv/kv_cache.h"
#include "policy/batch_former.h"
#include "policy/gang_planner.h"
#include "policy/request_order.h"
#include "policy/step_time_model.h"
#include "sched/batch_executor.h"
#include "sched/class_queues.h"
#include "sched/order_decision.h"
#include "sched/prefix_lookup.h"
#include "sched/request_table.h"
#include "sched/scheduler_counters.h"
#include "sched/step_loop_options.h"
#include "sched/waiting_order.h"

namespace gimbal::sched {

// Forms the batch of a step: shows the BatchFormer what runs and waits, and carries its grants out
// on the KV cache. Knows who holds pages and who waits.
//
// KV rules. A request is admitted when the pages of its uncached tokens are free beside one for
// each running decode; it gets them all at once. A decode that needs a page and finds none takes
// those of the lowest class's latest arrival, perhaps its own: that sequence is evicted, waits
// again with its old rank, and all its tokens are computed again. One that was evicted is spared
// until it has made a token, unless all have been. In a step that evicts nobody is admitted.
//
// Where the former says so (gimbal), best-effort sequences also make room for the first
// latency-sensitive head, when all that it lacks is pages: latest arrival first, only as many as it
// takes, and none unless they are enough. Two things bound this, so that best-effort work goes on:
// one that was evicted is spared until it has made a token, even if all have been, and none is
// evicted while the former owes best-effort work a whole step's rows.
//
// One thread. Refers to the collaborators, which must outlive it.
class StepPlanner {
 public:
  struct Collaborators {
    const policy::RequestOrder& order;
    const policy::BatchFormer& former;
    RequestTable& table;
    kv::KvCache& cache;
    const policy::StepTimeModel& times;
  };
  struct Totals {
    std::uint64_t prefix_queried_tokens = 0;
    std::uint64_t prefix_hit_tokens = 0;
    std::uint64_t evictions = 0;
    std::uint64_t evictions_for_heads = 0;  // of them
    std::uint64_t recomputed_tokens = 0;
  };

  StepPlanner(const StepLoopOptions& options, const Collaborators& collaborators);
  StepPlanner(const StepPlanner&) = delete;
  StepPlanner& operator=(const StepPlanner&) = delete;

  // See PrefixLookup.
  [[nodiscard]] int missing_prefill(const Sequence& sequence,
                                    const Sequence* ahead = nullptr) const {
    return prefixes_.missing_prefill(sequence, ahead);
  }
  // See WaitingOrder.
  void enqueue(Sequence& sequence, TimePoint now, const policy::PrefillCost& cost,
               const Sequence* ahead = nullptr) {
    waiting_.enqueue(sequence, now, cost, ahead);
  }
  void take_orders(std::vector<OrderDecision>& to) { waiting_.take_decisions(to); }
  // Moves who was admitted and who was evicted since the last call to the ends of these.
  void take_moves(std::vector<RequestId>& admitted, std::vector<RequestId>& evicted);
  // Takes a sequence out of its queue or the running ones and frees its pages.
  void remove(Sequence& sequence, TimePoint now);
  // Says that the sequence's tokens up to `computed` have been computed.
  void commit(Sequence& sequence, int computed, TimePoint now);

  // What the former would grant now: fills in decodes, their context, want, most, requests,
  // prefill_position and latency_sensitive. Changes nothing. False: there is nothing to run.
  [[nodiscard]] bool preview(TimePoint now, policy::GangMember& member);

  // Fills plan.sequences for step number `step`. False: there is nothing to run. Sequences of
  // the plan have their pages; the plan's spans hold until the sequences change.
  // `prefill_budget`: see BatchView. Requires: no batch runs.
  [[nodiscard]] bool plan(TimePoint now, std::uint64_t step, StepPlan& plan,
                          std::optional<int> prefill_budget = std::nullopt);

  // Fills in what it knows: what waits and runs, its totals, and a of sjf-aging.
  void count(TimePoint now, SchedulerCounters& counters) const;
  [[nodiscard]] const ClassQueues& queues() const { return waiting_.queues(); }
  [[nodiscard]] const std::vector<RequestId>& running() const { return running_; }
  [[nodiscard]] const Totals& totals() const { return totals_; }

 private:
  void take_out(Sequence& sequence);
  void look(TimePoint now, policy::BatchView& view);
  void collect_running(policy::BatchView& view);
  void collect_waiting(TimePoint now, policy::BatchView& view);
  void collect_heads(TimePoint now, RequestClass request_class);
  [[nodiscard]] bool carry_out(TimePoint now);
  [[nodiscard]] bool grow(Sequence& sequence, int tokens);
  [[nodiscard]] Sequence& choose_victim();
  void evict(Sequence& sequence, OrderReason reason);
  [[nodiscard]] bool make_room_for_head();
  [[nodiscard]] bool admit(Sequence& sequence, TimePoint now);
  void write_plan(std::uint64_t step, StepPlan& plan);

  const StepLoopOptions& options_;
  const policy::BatchFormer& former_;
  RequestTable& table_;
  kv::KvCache& cache_;
  PrefixLookup prefixes_;
  WaitingOrder waiting_;
  std::vector<RequestId> running_;  // hold pages; in order of admission
  const policy::StepTimeModel& times_;
  double best_effort_owed_ = 0;
  double steps_without_prefill_ = 0;
  Totals totals_;
  std::vector<RequestId> admitted_;  // until they are taken
  std::vector<RequestId> evicted_;

  // Reused from step to step.
  policy::BatchDecision decision_;
  std::vector<policy::RunningSequence> running_views_;
  std::vector<policy::WaitingRequest> waiting_views_;
  std::vector<RequestId> heads_;  // of waiting_views_
  std::vector<RequestId> victims_;
  struct GrantedRows {
    RequestId request;
    int rows = 0;
  };
  std::vector<GrantedRows> granted_;
};

}  // namespace gimbal::sched
