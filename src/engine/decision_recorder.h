#pragma once

#include <fstream>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "cluster/decision_log.h"
#include "cluster/order_log.h"
#include "sched/order_decision.h"

namespace gimbal::engine {

// Keeps the last ordering decisions of a process's engines, and writes them and those of the
// dispatcher to a file, one JSON document a line. Thread-safe.
class DecisionRecorder final : public cluster::OrderInspector {
 public:
  // `path` empty: no file. Errors name the path.
  [[nodiscard]] static Result<std::unique_ptr<DecisionRecorder>> open(const std::string& path,
                                                                      std::size_t most_orders);

  void note_orders(EngineId engine, TimePoint time, const cluster::OrderRule& rule,
                   std::span<const sched::OrderDecision> decisions);
  void note_dispatch(const cluster::DecisionRecord& record);

  [[nodiscard]] std::vector<cluster::OrderRecord> orders_of(RequestId request) const override;
  [[nodiscard]] std::vector<cluster::OrderRecord> last_orders(std::size_t most) const override;

 private:
  explicit DecisionRecorder(std::size_t most_orders) : orders_(most_orders) {}

  mutable std::mutex mutex_;  // guards all
  cluster::OrderLog orders_;
  std::ofstream file_;
};

}  // namespace gimbal::engine
