#include "cluster/engine_snapshot.h"

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
          .budget = sched::prefill_budget(options),
          .max_waiting_prefill_tokens = loop.max_waiting_prefill_tokens(),
          .aging = counters.aging,
          .best_effort_aging = counters.best_effort_aging};
}

}  // namespace gimbal::cluster
