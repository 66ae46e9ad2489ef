#include "engine/decision_recorder.h"

#include <cerrno>

#include "cluster/decision_json.h"

namespace gimbal::engine {

Result<std::unique_ptr<DecisionRecorder>> DecisionRecorder::open(const std::string& path,
                                                                 std::size_t most_orders) {
  std::unique_ptr<DecisionRecorder> recorder(new DecisionRecorder(most_orders));
  if (path.empty()) return recorder;
  recorder->file_.open(path, std::ios::trunc);
  if (!recorder->file_) return io_error(path, errno);
  return recorder;
}

void DecisionRecorder::note_orders(EngineId engine, TimePoint time, const cluster::OrderRule& rule,
                                   std::span<const sched::OrderDecision> decisions) {
  if (decisions.empty()) return;
  const std::lock_guard lock(mutex_);
  for (const sched::OrderDecision& decision : decisions) {
    const cluster::OrderRecord& record =
        orders_.add({.time = time, .engine = engine, .rule = rule, .decision = decision});
    if (file_.is_open()) file_ << cluster::order_to_json(record) << '\n';
  }
}

void DecisionRecorder::note_dispatch(const cluster::DecisionRecord& record) {
  if (!file_.is_open()) return;
  const Json json = cluster::decision_to_json(record);
  const std::lock_guard lock(mutex_);
  file_ << json << '\n';
}

std::vector<cluster::OrderRecord> DecisionRecorder::orders_of(RequestId request) const {
  const std::lock_guard lock(mutex_);
  return orders_.of(request);
}

std::vector<cluster::OrderRecord> DecisionRecorder::last_orders(std::size_t most) const {
  const std::lock_guard lock(mutex_);
  return orders_.last(most);
}

}  // namespace gimbal::engine
