#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "cluster/expert_rows.h"
#include "cluster/expert_work.h"
#include "policy/prefill_cost.h"
#include "policy/queue_profile.h"
#include "policy/step_forecast.h"
#include "policy/step_time_model.h"
#include "sched/request.h"

namespace gimbal::cluster {

// One step's news of one request. A request gets any number of these and exactly one with `finish`.
struct TokenOutput {
  RequestId request;
  EngineId engine{-1};  // of several, the one that says it; -1: there is but one, or none does
  std::optional<TokenId> token;                    // absent in a bare end (cancelled, failed, …)
  std::unique_ptr<sched::TokenLogprobs> logprobs;  // of `token`, where asked for
  std::vector<sched::TokenLogprobs> prompt_logprobs;  // positions in order, the first has no entry
  std::optional<sched::FinishReason> finish;
  std::string error;                 // with FinishReason::kFailed: what happened
  std::optional<ErrorCode> refused;  // with it: the request was not taken after all, and why
  std::int32_t cached_tokens = 0;    // prompt tokens found in the prefix cache
  // With `finish`, of an engine that shares experts: where the request's rows went.
  ExpertRows expert_rows;
};

// Receives what an engine generates. Called on the engine's thread, at most once a step; must not
// block or call back into the engine.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void on_outputs(std::span<TokenOutput> outputs) = 0;  // may move from the outputs
};

// What an engine says of itself after every step (docs/design/0009). A missing signal is never 0:
// fields that an engine cannot know are nullopt.
struct EngineSnapshot {
  std::uint64_t sequence = 0;  // of snapshots
  std::uint64_t steps = 0;     // finished
  TimePoint taken{};           // when it said so
  // The highest dispatch sequence number of the requests that had reached its scheduler by then.
  std::uint64_t dispatch_sequence = 0;
  // KV pressure, in pages; cached pages that nobody refers to count as free.
  std::int64_t pages_total = 0;
  std::int64_t pages_referenced = 0;
  std::int64_t page_tokens = 16;
  // Prompt tokens not computed yet, after prefix hits.
  std::int64_t running_prefill_tokens = 0;
  std::int64_t waiting_prefill_tokens = 0;
  std::int64_t waiting_best_effort_prefill_tokens = 0;  // of the line above
  // Requests.
  std::int64_t waiting_requests = 0;
  std::int64_t waiting_best_effort_requests = 0;  // of the line above
  std::int64_t running_requests = 0;
  std::int64_t decodes = 0;
  std::int64_t decode_context_tokens = 0;
  // Counters since the start.
  std::uint64_t prompt_tokens = 0;
  std::uint64_t generated_tokens = 0;
  std::uint64_t prefix_queried_tokens = 0;
  std::uint64_t prefix_hit_tokens = 0;
  std::uint64_t evictions = 0;            // sequences that lost their pages and are computed again
  std::uint64_t evictions_for_heads = 0;  // of them, for a latency-sensitive request that waited
  std::uint64_t recomputed_tokens = 0;    // rows run again after evictions
  std::uint64_t pages_freed = 0;          // times that a page lost its last reference
  std::uint64_t pages_evicted = 0;        // cached pages that gave way to others
  std::uint64_t finished_requests = 0;    // ended by themselves
  std::uint64_t finished_output_tokens = 0;  // of them
  std::uint64_t prefill_rows = 0;            // rows of prompts that steps have run
  std::uint64_t expert_rows = 0;
  std::uint64_t distinct_experts = 0;                      // summed over layers and steps
  std::optional<double> prefill_tokens_per_second;         // measured; nullopt before any was
  std::optional<policy::StepTimeCoefficients> step_times;  // fitted; nullopt before enough was seen
  policy::ExpertShape experts;                             // of the model
  double expert_ratio = 1;  // with step_times: distinct experts to what uniform choices touch
  // The queues in short, where they are profiled, and what job sizes of new requests are made of.
  bool queues_profiled = false;
  policy::QueueProfile queue;
  policy::QueueProfile best_effort_queue;
  policy::PrefillCost prefill_cost;
  // The step that runs now, and since when.
  std::optional<policy::StepShape> running_step;
  TimePoint step_started{};
  double step_expected_ms = 0;  // of all who step together; 0: not known
  // How it cuts prompts, and how many prompt tokens may wait; 0: not said.
  policy::PrefillBudget budget;
  std::int64_t max_waiting_prefill_tokens = 0;
  // a of sjf-aging, by class.
  double aging = 0;
  double best_effort_aging = 0;
};

// What limits a request, known from the start.
struct EngineLimits {
  std::int64_t max_model_len = 0;  // prompt and output tokens of one request
  std::int64_t vocab_size = 0;
  std::int64_t max_waiting_prefill_tokens = 0;
  int engines = 1;  // behind this one: what a request can be pinned to
};

// An engine as the server and the dispatcher see it: real, simulated or remote. Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;

  // Queues the sequences that one API request asks for, all or none, choices of one prompt side by
  // side; their outputs go to the sink given when the engine was made.
  // kResourceExhausted: the queue is full, try later; an empty queue takes any group.
  // kUnavailable: draining, or the engine failed. kInvalidArgument: prompt and max_tokens of one
  // exceed max_model_len, or a token is not in the vocabulary.
  [[nodiscard]] virtual Result<void> submit(std::vector<sched::Request> group) = 0;
  // Ends a request early: its pages are free within one stage, and the sink gets kCancelled unless
  // the request ended before. Unknown ids are ignored.
  virtual void cancel(RequestId request) = 0;
  [[nodiscard]] virtual EngineSnapshot snapshot() const = 0;
  // By layer and rank, what experts ran of this engine's rows: beside the snapshot, because
  // [layers, ranks] is too much to copy every step. Counts of a run that just ends may be seen in
  // part. Empty: not known, or several engines (Inspector::engine_status has those of each).
  [[nodiscard]] virtual ExpertWork expert_work() const { return {}; }
  [[nodiscard]] virtual const EngineLimits& limits() const = 0;
  // False once the engine can serve no more; `why` says it for people.
  [[nodiscard]] virtual bool healthy(std::string* why) const = 0;
};

}  // namespace gimbal::cluster
