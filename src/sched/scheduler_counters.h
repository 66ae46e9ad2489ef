#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "policy/prefill_cost.h"
#include "policy/queue_profile.h"
#include "policy/step_time_model.h"

namespace gimbal::sched {

// What an engine's scheduler says of itself. Value type.
struct SchedulerCounters {
  std::uint64_t steps = 0;         // finished
  std::uint64_t failed_steps = 0;  // ended by StepFailed
  // KV pressure, in pages; cached pages that nobody refers to count as free.
  std::int64_t pages_total = 0;
  std::int64_t pages_referenced = 0;
  std::int64_t page_tokens = 0;
  // Tokens not computed yet, after prefix hits. Those of waiting requests are as they were when the
  // request was queued, and of an evicted one include what it had generated.
  std::int64_t running_prefill_tokens = 0;
  std::int64_t waiting_prefill_tokens = 0;
  std::int64_t waiting_best_effort_prefill_tokens = 0;  // of the line above
  // Requests.
  std::int64_t waiting_requests = 0;
  std::int64_t waiting_best_effort_requests = 0;  // of the line above
  std::int64_t running_requests = 0;              // hold pages
  std::int64_t decodes = 0;                       // of them
  std::int64_t decode_context_tokens = 0;
  // Since the start.
  std::uint64_t prompt_tokens = 0;  // of accepted requests
  std::uint64_t generated_tokens = 0;
  std::uint64_t prefill_rows = 0;            // rows of prompts that steps have run
  std::uint64_t prefix_queried_tokens = 0;   // prompt tokens of first admissions
  std::uint64_t prefix_hit_tokens = 0;       // of them, found in the cache
  std::uint64_t evictions = 0;               // sequences that lost their pages
  std::uint64_t evictions_for_heads = 0;     // of them, for a latency-sensitive head
  std::uint64_t recomputed_tokens = 0;       // rows run again after evictions
  std::uint64_t pages_freed = 0;             // times that a page lost its last reference
  std::uint64_t pages_evicted = 0;           // cached pages that gave way to others
  std::uint64_t finished_requests = 0;       // ended with kStop or kLength
  std::uint64_t finished_output_tokens = 0;  // of them
  std::uint64_t dispatch_sequence = 0;       // the highest of all requests so far
  // With profile_queues: the queues in short, and what job sizes of new requests are made of.
  policy::QueueProfile queue;
  policy::QueueProfile best_effort_queue;
  policy::PrefillCost prefill_cost;
  // The step that runs now, and since when.
  std::optional<policy::StepShape> running_step;
  TimePoint step_started{};
  double step_expected_ms = 0;  // as the answer that let it start says; 0: not known
  std::optional<double> prefill_tokens_per_second;  // measured; nullopt before any was
  // Fitted; nullopt before enough steps were seen.
  std::optional<policy::StepTimeCoefficients> step_times;
  double expert_ratio = 1;  // with step_times: distinct experts to what uniform choices touch
  // a of sjf-aging, by class.
  double aging = 0;
  double best_effort_aging = 0;
};

}  // namespace gimbal::sched
