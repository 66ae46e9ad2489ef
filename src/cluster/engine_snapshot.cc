#include "cluster/engine_snapshot.h"

#include <algorithm>

#include "cluster/dispatcher.h"

namespace gimbal::cluster {

EngineSnapshot snapshot_of(const sched::StepLoop& loop, const SnapshotStamp& stamp) {
  const sched::SchedulerCounters counters = loop.counters();
  const sched::StepLoopOptions& options = loop.options();
  return {.sequence = stamp.sequence,
          .steps = counters.steps,
          .taken = stamp.taken,
          .dispatch_sequence = counters.dispatch_sequence,
          .pages_total = counters.pages_total,
          .pages_referenced = counters.pages_referenced,
          .page_tokens = counters.page_tokens,
          .running_prefill_tokens = counters.running_prefill_tokens,
          .waiting_prefill_tokens = counters.waiting_prefill_tokens,
          .waiting_best_effort_prefill_tokens = counters.waiting_best_effort_prefill_tokens,
          .waiting_requests = counters.waiting_requests,
          .waiting_best_effort_requests = counters.waiting_best_effort_requests,
          .running_requests = counters.running_requests,
          .decodes = counters.decodes,
          .decode_context_tokens = counters.decode_context_tokens,
          .prompt_tokens = counters.prompt_tokens,
          .generated_tokens = counters.generated_tokens,
          .prefix_queried_tokens = counters.prefix_queried_tokens,
          .prefix_hit_tokens = counters.prefix_hit_tokens,
          .evictions = counters.evictions,
          .evictions_for_heads = counters.evictions_for_heads,
          .recomputed_tokens = counters.recomputed_tokens,
          .pages_freed = counters.pages_freed,
          .pages_evicted = counters.pages_evicted,
          .finished_requests = counters.finished_requests,
          .finished_output_tokens = counters.finished_output_tokens,
          .prefill_rows = counters.prefill_rows,
          .expert_rows = stamp.expert_rows,
          .distinct_experts = stamp.distinct_experts,
          .prefill_tokens_per_second = counters.prefill_tokens_per_second,
          .step_times = counters.step_times,
          .experts = options.experts,
          .expert_ratio = counters.expert_ratio,
          .queues_profiled = options.profile_queues,
          .queue = counters.queue,
          .best_effort_queue = counters.best_effort_queue,
          .prefill_cost = counters.prefill_cost,
          .running_step = counters.running_step,
          .step_started = counters.step_started,
          .step_expected_ms = counters.step_expected_ms,
          .budget = sched::prefill_budget(options),
          .max_waiting_prefill_tokens = loop.max_waiting_prefill_tokens(),
          .aging = counters.aging,
          .best_effort_aging = counters.best_effort_aging};
}

EngineSnapshot without_work(const EngineSnapshot& last) {
  EngineSnapshot ended = last;
  ++ended.sequence;
  ended.pages_referenced = 0;
  ended.running_prefill_tokens = 0;
  ended.waiting_prefill_tokens = 0;
  ended.waiting_best_effort_prefill_tokens = 0;
  ended.waiting_requests = 0;
  ended.waiting_best_effort_requests = 0;
  ended.running_requests = 0;
  ended.decodes = 0;
  ended.decode_context_tokens = 0;
  ended.prefill_tokens_per_second.reset();
  ended.queue = {};
  ended.best_effort_queue = {};
  ended.running_step.reset();
  return ended;
}

void add_snapshot(EngineSnapshot& sum, const EngineSnapshot& each) {
  sum.sequence += each.sequence;
  sum.steps += each.steps;
  sum.taken = std::max(sum.taken, each.taken);
  sum.pages_total += each.pages_total;
  sum.pages_referenced += each.pages_referenced;
  sum.page_tokens = each.page_tokens;
  sum.running_prefill_tokens += each.running_prefill_tokens;
  sum.waiting_prefill_tokens += each.waiting_prefill_tokens;
  sum.waiting_best_effort_prefill_tokens += each.waiting_best_effort_prefill_tokens;
  sum.waiting_requests += each.waiting_requests;
  sum.waiting_best_effort_requests += each.waiting_best_effort_requests;
  sum.running_requests += each.running_requests;
  sum.decodes += each.decodes;
  sum.decode_context_tokens += each.decode_context_tokens;
  sum.prompt_tokens += each.prompt_tokens;
  sum.generated_tokens += each.generated_tokens;
  sum.prefix_queried_tokens += each.prefix_queried_tokens;
  sum.prefix_hit_tokens += each.prefix_hit_tokens;
  sum.evictions += each.evictions;
  sum.evictions_for_heads += each.evictions_for_heads;
  sum.recomputed_tokens += each.recomputed_tokens;
  sum.pages_freed += each.pages_freed;
  sum.pages_evicted += each.pages_evicted;
  sum.finished_requests += each.finished_requests;
  sum.finished_output_tokens += each.finished_output_tokens;
  sum.prefill_rows += each.prefill_rows;
  sum.expert_rows += each.expert_rows;
  sum.distinct_experts += each.distinct_experts;
  sum.max_waiting_prefill_tokens += each.max_waiting_prefill_tokens;
  if (each.prefill_tokens_per_second) {
    sum.prefill_tokens_per_second =
        sum.prefill_tokens_per_second.value_or(0) + *each.prefill_tokens_per_second;
  }
  sum.experts = each.experts;
  sum.aging = each.aging;
  sum.best_effort_aging = each.best_effort_aging;
}

void add_queued(EngineSnapshot& sum, const Dispatcher& dispatcher) {
  for (const bool best_effort : {false, true}) {
    const DispatchQueue::Sum& queued = dispatcher.queued(best_effort);
    const auto tokens = static_cast<std::int64_t>(queued.prefill_tokens);
    sum.waiting_requests += queued.requests;
    sum.waiting_prefill_tokens += tokens;
    if (!best_effort) continue;
    sum.waiting_best_effort_requests += queued.requests;
    sum.waiting_best_effort_prefill_tokens += tokens;
  }
}

}  // namespace gimbal::cluster
