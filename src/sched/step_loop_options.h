#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "policy/batch_former.h"
#include "policy/prefill_cost.h"
#include "policy/request_order.h"
#include "policy/step_forecast.h"
#include "policy/step_time_model.h"

namespace gimbal::sched {

// How one engine schedules. Checked by StepLoop::make.
struct StepLoopOptions {
  std::string order = "sjf-aging";
  policy::RequestOrderOptions order_options;
  std::string former = "gimbal";
  policy::BatchFormerOptions former_options;

  int max_num_seqs = 256;             // sequences that hold pages at once; >= 1
  int max_num_batched_tokens = 2048;  // rows of a step; >= 1, also below max_num_seqs
  int max_model_len = 0;              // prompt and output tokens of one request; must fit the pool
  int vocab_size = 0;                 // tokens are in [0, vocab_size); >= 1
  // Prompt tokens that may wait, after prefix hits. nullopt: what 60 s of measured prefill clear,
  // at least 65 536.
  std::optional<std::int64_t> max_waiting_prefill_tokens;

  // The engine shares its experts with others: before each step it says what it would run, and
  // starts when it is told to (Outputs::intent, StartStep).
  bool asks_before_steps = false;
  // With it: the longest that a stage of a step may take, for whom waits behind it. 0: a quarter of
  // the predicted step of 512 prompt tokens.
  double max_stage_ms = 0;

  int kv_pages = 0;  // of the engine's pool
  int page_tokens = 16;
  bool prefix_caching = true;
  // For a dispatcher: keep prefix changes until they are drained; say in counters() how the queues
  // stand.
  bool record_prefix_events = false;
  bool keep_prefix_tokens = true;  // see kv::PrefixIndexOptions::keep_tokens
  bool profile_queues = false;
  bool report_order = false;     // say where requests are queued (Outputs::ordered)
  std::uint64_t model_salt = 0;  // with Request::cache_salt, what keeps prefixes apart

  policy::PrefillCost prefill_cost;  // until a prefill was measured
  policy::ExpertShape experts;       // of the model, for predictions of a step's time
};

// kInvalidArgument, with the option's name as field, when one is out of range. Names of orders and
// formers and their own options are checked where they are made.
[[nodiscard]] Result<void> check_options(const StepLoopOptions& options);

// How much prefill the options' former runs in a step, for those who forecast it.
[[nodiscard]] policy::PrefillBudget prefill_budget(const StepLoopOptions& options);

}  // namespace gimbal::sched
