#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"

namespace gimbal::policy {

// The rows that wait for one expert of one layer, at the service that owns it.
struct WaitingExpertQueue {
  LayerIndex layer;
  ExpertId expert;
  int latency_sensitive_rows = 0;  // rows in all >= 1
  int best_effort_rows = 0;
  int gang_rows = 0;      // of all rows, those of gang steps, for which all members wait
  int deferred_runs = 0;  // runs that passed it over while only best-effort rows waited in it
  TimePoint oldest{};     // when the row was posted that waits longest

  [[nodiscard]] bool best_effort_only() const { return latency_sensitive_rows == 0; }
  [[nodiscard]] bool may_wait() const { return latency_sensitive_rows == 0 && gang_rows == 0; }
  [[nodiscard]] int rows() const { return latency_sensitive_rows + best_effort_rows; }
};

// Predicted time of a run, ms = experts · ms_per_expert + rows · ms_per_row. Zeros: not known yet.
struct ExpertRunCost {
  double ms_per_expert = 0;  // streaming one expert's weights
  double ms_per_row = 0;
};

struct ExpertQueueView {
  std::span<const WaitingExpertQueue> queues;  // in the order in which they began to wait
  ExpertRunCost cost;
  TimePoint now{};
};

// Which queues the service runs now, as one grouped product. Reused from run to run, so that
// choosing allocates nothing.
struct ExpertQueueDecision {
  std::vector<int> run;  // indices into ExpertQueueView::queues, each once, first ones first
  // With an empty `run`: nothing before that time, unless something is posted or cancelled.
  // nullopt: wait for the next post.
  std::optional<TimePoint> wait_until;
};

// Decides which (layer, expert) queues run now (expert-grain preemption, QLLM §4). A queue runs
// whole: best-effort rows ride along with latency-sensitive ones of the same expert, because its
// weights are being streamed already. Every policy runs each queue in the end, whatever else is
// posted. Stateless; thread-safe.
class ExpertQueuePolicy {
 public:
  virtual ~ExpertQueuePolicy() = default;

  // Overwrites `decision`. Called once a run: a handful of queues in decode, all experts in
  // prefill.
  virtual void choose(const ExpertQueueView& view, ExpertQueueDecision& decision) const = 0;
};

struct ExpertQueuePolicyOptions {
  // ls-first
  Duration quantum = std::chrono::milliseconds(1);  // best-effort queues fill a run up to it; >= 0
  int max_defer = 8;                            // runs that may pass a best-effort queue over; >= 0
  Duration max_wait = std::chrono::seconds(1);  // a queue older than that is passed over no more
};

struct ExpertQueueRule {
  std::string name = "run-all";
  ExpertQueuePolicyOptions options = {};
};

// By name:
//   run-all   all that waits, queues with latency-sensitive rows before the others.
//   ls-first  all queues with latency-sensitive rows; then those with rows of gang steps, and
//             best-effort ones that have been passed over max_defer times or waited max_wait; then
//             other best-effort ones in the order of waiting, while the predicted run stays within
//             the quantum (no limit while the cost is not known). A run is never empty while
//             something waits.
// An unknown name or an option out of range is kInvalidArgument.
[[nodiscard]] Result<std::unique_ptr<ExpertQueuePolicy>> make_expert_queue_policy(
    std::string_view name, const ExpertQueuePolicyOptions& options);
[[nodiscard]] inline Result<std::unique_ptr<ExpertQueuePolicy>> make_expert_queue_policy(
    const ExpertQueueRule& rule) {
  return make_expert_queue_policy(rule.name, rule.options);
}
[[nodiscard]] std::vector<std::string_view> expert_queue_policy_names();

}  // namespace gimbal::policy
