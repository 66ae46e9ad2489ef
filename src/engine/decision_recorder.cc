#include "engine/decision_recorder.h"

#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "cluster/decision_json.h"

namespace gimbal::engine {
namespace {

constexpr Duration kFlushInterval = std::chrono::milliseconds(200);

}  // namespace

Result<std::unique_ptr<DecisionRecorder>> DecisionRecorder::open(const std::string& path,
                                                                 std::size_t most_orders) {
  std::unique_ptr<DecisionRecorder> recorder(new DecisionRecorder(path, most_orders));
  if (path.empty()) return recorder;
  recorder->file_.open(path, std::ios::trunc);
  if (!recorder->file_) return io_error(path, errno);
  return recorder;
}

DecisionRecorder::~DecisionRecorder() {
  if (path_.empty()) return;
  file_.close();
  if (!file_) log_error("the decisions {} could not be written to their end", path_);
}

// The lock is held.
void DecisionRecorder::write(const Json& decision, TimePoint time) {
  file_ << decision << '\n';
  if (time - flushed_ < kFlushInterval) return;
  flushed_ = time;
  file_.flush();
}

void DecisionRecorder::note_orders(std::optional<EngineId> engine, TimePoint time,
                                   const cluster::OrderRule& rule,
                                   std::span<const sched::OrderDecision> decisions) {
  const std::lock_guard lock(mutex_);
  for (const sched::OrderDecision& decision : decisions) {
    const cluster::OrderRecord& record =
        orders_.add({.time = time, .engine = engine, .rule = rule, .decision = decision});
    if (!path_.empty()) write(cluster::order_to_json(record), time);
  }
}

void DecisionRecorder::note_dispatch(const cluster::DecisionRecord& record) {
  if (path_.empty()) return;
  const Json json = cluster::decision_to_json(record);
  const std::lock_guard lock(mutex_);
  write(json, record.time);
}

void DecisionRecorder::flush() {
  const std::lock_guard lock(mutex_);
  file_.flush();
}

std::vector<cluster::OrderRecord> DecisionRecorder::orders_of(RequestId request) const {
  const std::lock_guard lock(mutex_);
  return orders_.of(request);
}

std::vector<cluster::OrderRecord> DecisionRecorder::last_orders(std::size_t most) const {
  const std::lock_guard lock(mutex_);
  return orders_.last(most);
}

std::vector<cluster::OrderCounts> DecisionRecorder::order_counts() const {
  const std::lock_guard lock(mutex_);
  return orders_.counts();
}

}  // namespace gimbal::engine
