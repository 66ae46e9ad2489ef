#include "engine/expert_row_counts.h"

#include <algorithm>
#include <utility>

namespace gimbal::engine {

ExpertRowCounts::ExpertRowCounts(int ranks, int slots)
    : ranks_(static_cast<std::size_t>(ranks)), by_slot_(static_cast<std::size_t>(slots) * ranks_) {}

void ExpertRowCounts::use_map(const policy::ExpertMap& map) {
  const std::uint64_t fingerprint = map.fingerprint();
  if (fingerprint == std::exchange(map_, fingerprint)) return;
  std::fill(by_slot_.begin(), by_slot_.end(), 0);
  by_request_.clear();
}

void ExpertRowCounts::settle(sched::SourceSlot slot, RequestId request) {
  std::vector<double>& rows = by_request_[request];
  rows.resize(ranks_);
  for (std::size_t rank = 0; rank < ranks_; ++rank)
    rows[rank] += std::exchange(by_slot_[first_of(slot) + rank], 0);
}

void ExpertRowCounts::discard(sched::SourceSlot slot) {
  std::fill_n(by_slot_.begin() + static_cast<std::ptrdiff_t>(first_of(slot)), ranks_, 0);
}

cluster::ExpertRows ExpertRowCounts::take(RequestId request) {
  const auto found = by_request_.find(request);
  if (found == by_request_.end()) return {};
  cluster::ExpertRows rows{.map = map_, .by_rank = std::move(found->second)};
  by_request_.erase(found);
  return rows;
}

}  // namespace gimbal::engine
