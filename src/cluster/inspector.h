#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "cluster/decision_log.h"
#include "cluster/engine.h"
#include "cluster/expert_inspector.h"
#include "policy/dispatch.h"

namespace gimbal::cluster {

// One engine of several, as the dispatcher sees it now.
struct EngineStatus {
  EngineId engine;
  EngineSnapshot snapshot;
  ExpertWork expert_work;  // of its rows; empty: not known
  bool healthy = true;
  std::string failure;      // where it is not
  policy::EngineView view;  // what a rule would be shown, but for a request's prefix hits
  std::optional<double> expert_pressure;  // ρ, also where it is withheld from the view
  double predicted_step_ms = 0;
  double excluded_ms = 0;        // for how long it is left out; 0: it is not
  std::uint64_t dispatched = 0;  // requests, since the start
};

// The dispatcher itself.
struct DispatchStatus {
  std::string rule;
  bool late = false;  // binding
  std::size_t queued_groups = 0;
  double queued_prefill_tokens = 0;
  std::array<std::uint64_t, policy::kDispatchReasons> reasons{};  // decisions since the start
};

// What can be seen of several engines behind one cluster::Engine. Thread-safe.
class Inspector {
 public:
  virtual ~Inspector() = default;

  [[nodiscard]] virtual std::vector<EngineStatus> engine_status() const = 0;
  [[nodiscard]] virtual DispatchStatus dispatch_status() const = 0;
  // Of the decisions that are kept, those about a request, oldest first.
  [[nodiscard]] virtual std::vector<DecisionRecord> decisions_of(RequestId request) const = 0;
  // Experts that the engines share; null: they share none. Lives as long as the inspector.
  [[nodiscard]] virtual ExpertInspector* experts() const { return nullptr; }
  // The last ones, at most `most`, oldest first.
  [[nodiscard]] virtual std::vector<DecisionRecord> last_decisions(std::size_t most) const = 0;
};

class Dispatcher;
[[nodiscard]] DispatchStatus dispatch_status_of(const Dispatcher& dispatcher);
// What the dispatcher has of the engine's status: all but the snapshot, the work and its health.
[[nodiscard]] EngineStatus engine_status_of(const Dispatcher& dispatcher, EngineId engine,
                                            TimePoint now);

// The picture of /debug/engines.
[[nodiscard]] Json status_to_json(const std::vector<EngineStatus>& engines,
                                  const DispatchStatus& dispatch);

}  // namespace gimbal::cluster
