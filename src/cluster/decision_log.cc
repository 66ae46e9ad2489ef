#include "cluster/decision_log.h"

#include <algorithm>
#include <utility>

namespace gimbal::cluster {

void DecisionLog::add(DecisionRecord record) {
  ++reasons_[static_cast<std::size_t>(record.reason)];
  if (most_records_ == 0) return;
  if (records_.size() >= most_records_) records_.pop_front();
  records_.push_back(std::move(record));
}

DecisionRecord DecisionLog::take_oldest() {
  if (records_.empty() || records_.size() < most_records_) return {};
  DecisionRecord oldest = std::move(records_.front());
  records_.pop_front();
  return oldest;
}

std::vector<DecisionRecord> DecisionLog::of(RequestId request) const {
  std::vector<DecisionRecord> found;
  for (const DecisionRecord& record : records_) {
    if (std::ranges::find(record.requests, request) != record.requests.end())
      found.push_back(record);
  }
  return found;
}

std::vector<DecisionRecord> DecisionLog::last(std::size_t most) const {
  const auto count = static_cast<std::ptrdiff_t>(std::min(most, records_.size()));
  return {records_.end() - count, records_.end()};
}

}  // namespace gimbal::cluster
