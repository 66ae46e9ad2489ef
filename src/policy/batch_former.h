#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "policy/step_time_model.h"

namespace gimbal::policy {

// A sequence that holds KV pages.
struct RunningSequence {
  bool best_effort = false;
  int prefill_left = 0;           // rows to run before it makes a token; 0: it decodes, one row
  std::uint64_t last_served = 0;  // the step that ran it last; smaller is longer ago
};

// A request that could be admitted now.
struct WaitingRequest {
  bool best_effort = false;
  TimePoint arrival{};
  int prefill = 0;  // rows to run before it makes a token, after prefix hits; >= 1
  int pages = 0;    // of the free ones, that admitting it takes
};

// What a batch former sees at a step boundary.
struct BatchView {
  std::span<const RunningSequence> running;  // in order of admission
  std::span<const WaitingRequest> waiting;   // heads of the queues: latency-sensitive ones in queue
                                             // order, then best-effort ones in queue order
  int max_rows = 1;                          // of a step (max_num_batched_tokens); >= 1
  int max_sequences = 1;                     // running at once (max_num_seqs); >= 1
  int free_pages = 0;
  int page_tokens = 16;
  std::int64_t backlog = 0;              // rows to prefill of all running and all waiting requests
  std::int64_t decode_context = 0;       // tokens that the running decodes attend to
  double prefill_position = 0;           // where the prompts to run next stand; their mean
  double best_effort_owed = 0;           // what the last decision said
  double steps_without_prefill = 0;      // what the last decision said
  const StepTimeModel* times = nullptr;  // null: nothing is known of a step's time
  // gimbal: prefill rows of the step, as planned for all who share experts; it replaces what the
  // former would want and the target's limit. A step without decodes runs a page at least.
  std::optional<int> prefill_budget;
};

// Rows of one sequence in the step.
struct Grant {
  int index = 0;         // in BatchView::running or ::waiting
  bool waiting = false;  // which of them; granting a waiting request admits it
  int rows = 0;          // >= 1; at most prefill_left, one for a decode

  bool operator==(const Grant&) const = default;
};

// A step's batch. Reused from step to step, so that forming a batch allocates nothing.
struct BatchDecision {
  std::vector<Grant> grants;    // each sequence at most once, in order of importance
  double best_effort_owed = 0;  // rows of the best-effort share not given yet: for the next view
  // Steps in a row, this one too, that run no prefill though there is some: for the next view.
  double steps_without_prefill = 0;
  // The first latency-sensitive head would have been admitted, had it had its pages: evicting
  // somebody for it would help.
  bool head_lacks_pages = false;
  // Work space of the formers: content means nothing.
  std::vector<int> grant_of;
  std::vector<int> least_recent;
};

// Decides which sequences run in the next step, with how many rows. Every former keeps: rows in all
// <= max_rows; sequences running after it <= max_sequences; a waiting request is admitted only if
// its pages are free beside one page for each running decode and those admitted before it; heads
// are admitted in queue order, and one that does not fit stops admission. Something is granted
// whenever a sequence runs, or a head fits. Stateless; thread-safe.
class BatchFormer {
 public:
  virtual ~BatchFormer() = default;

  // Overwrites `decision`.
  virtual void form(const BatchView& view, BatchDecision& decision) const = 0;

  // Whether best-effort sequences give up their pages to a latency-sensitive head that lacks them.
  [[nodiscard]] virtual bool evicts_for_heads() const { return false; }
};

struct BatchFormerOptions {
  // N >= 1: of tgi sequences running at once, of qllm sequences in one step
  int max_batch = 32;
  // gimbal
  double drain_steps = 1;            // k: a backlog is to be gone after that many steps; > 0
  std::optional<int> prefill_floor;  // rows beside decodes; >= 1; nullopt: see below
  double target_itl_ms = 0;          // what a step with decodes should take at most; 0: no target
  double best_effort_filler = 0.25;  // of a step's rows, beside latency-sensitive ones; [0, 1]
  double best_effort_share = 0.10;   // of all rows, while best-effort work can run; [0, 1]
};

// By name:
//   vllm    decodes first, then prefill in chunks: running ones in order of admission, then waiting
//           ones in queue order, up to max_rows.
//   tgi     while fewer than N run and a request can be admitted, decoding stops and the arrivals
//           are prefilled whole as their own batch, in order of arrival over both classes; a prompt
//           longer than max_rows takes several such steps.
//   qllm    Algorithm 1 of QLLM as printed: of the sequences of a step, at most N,
//             1. latency-sensitive decodes, if there are N;
//             2. else latency-sensitive prefill, filled with best-effort prefill;
//             3. else latency-sensitive decodes, filled with best-effort decodes;
//             4. else best-effort decodes;
//             5. else best-effort prefill.
//           Prompts are prefilled whole; one longer than max_rows takes several steps. Best-effort
//           prefill starves while there is any decode.
//   gimbal  latency-sensitive decodes, latency-sensitive prefill, best-effort decodes, best-effort
//           prefill. Beside decodes the prefill is clamp(backlog / k, floor, max_rows), and at most
//           what keeps the step within the target (both below). Beside latency-sensitive rows,
//           best-effort ones are at most max(filler share of the step's rows, floor −
//           latency-sensitive prefill). Best-effort work that can run gets its share of the rows
//           over every stretch of steps, before all else. A best-effort head is admitted on that
//           share if the pages of the first latency-sensitive head stay free; once a whole step's
//           rows are owed, latency-sensitive heads wait until it is admitted.
// In all of them, of more decodes than rows the least recently served run.
//
// The automatic floor is the most prefill rows whose predicted computation is at most the larger of
//   - a quarter of what the step takes with its decodes alone: it hides in the streaming of weights
//     that the decodes cost anyway;
//   - what any prefill adds to the step however little it is (StepTimeModel::mixing_ms): smaller
//     pieces of a prompt would pay more for the cutting than for its rows.
// It is from one page to 2 048 rows, and 64 until step times are fitted.
//
// With a target, prefill beside decodes is at most the most rows for which the predicted step (q,
// D, C) takes at most the target: that moves k, as a longer backlog cannot lengthen the step. When
// no latency-sensitive sequence decodes, a page of rows may run all the same. When one does and
// the target leaves prefill less than a page, a page of rows runs after every eight steps in a row
// without prefill, so that prompts go on under a target that cannot be met. Of prefill that the
// target has cut, the best-effort share is at most half. Nothing is held back
// until step times are fitted, nor in steps without decodes.
// An unknown name or an option out of range is kInvalidArgument.
[[nodiscard]] Result<std::unique_ptr<BatchFormer>> make_batch_former(
    std::string_view name, const BatchFormerOptions& options);
[[nodiscard]] std::vector<std::string_view> batch_former_names();

}  // namespace gimbal::policy
