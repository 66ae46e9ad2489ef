#pragma once

#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "cluster/decision_log.h"
#include "cluster/order_log.h"
#include "sched/order_decision.h"

namespace gimbal::engine {

// Keeps the last ordering decisions of a process's engines, and writes them and those of the
// dispatcher to a file, one JSON document a line; what is older than a fifth of a second is on the
// disk. Thread-safe.
class DecisionRecorder final : public cluster::OrderInspector {
 public:
  // `path` empty: no file. Errors name the path.
  [[nodiscard]] static Result<std::unique_ptr<DecisionRecorder>> open(const std::string& path,
                                                                      std::size_t most_orders);
  ~DecisionRecorder() override;  // says in the log if the file could not be written

  // `engine`: nullopt for the dispatcher's own queue.
  void note_orders(std::optional<EngineId> engine, TimePoint time, const cluster::OrderRule& rule,
                   std::span<const sched::OrderDecision> decisions);
  void note_dispatch(const cluster::DecisionRecord& record);
  // What was written is on the disk.
  void flush();

  [[nodiscard]] std::vector<cluster::OrderRecord> orders_of(RequestId request) const override;
  [[nodiscard]] std::vector<cluster::OrderRecord> last_orders(std::size_t most) const override;
  [[nodiscard]] std::vector<cluster::OrderCounts> order_counts() const override;

 private:
  DecisionRecorder(std::string path, std::size_t most_orders)
      : path_(std::move(path)), orders_(most_orders) {}
  void write(const Json& decision, TimePoint time);

  const std::string path_;    // empty: no file
  mutable std::mutex mutex_;  // guards the rest
  cluster::OrderLog orders_;
  std::ofstream file_;
  TimePoint flushed_{};  // time of the decision up to which it was
};

}  // namespace gimbal::engine
