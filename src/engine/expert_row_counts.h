#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "cluster/expert_rows.h"
#include "policy/expert_map.h"
#include "sched/expert_post.h"

namespace gimbal::engine {

// How many (row, expert) pairs of each of an engine's requests went to which rank of its group, by
// the map that sends them now; what an earlier one sent is forgotten. Costs an addition a pair, a
// look-up a sequence and step, and memory when a request's first step ends.
//
// One thread: the engine's.
class ExpertRowCounts {
 public:
  // `slots`: of the engine's sequences in mid-step.
  ExpertRowCounts(int ranks, int slots);

  // Pairs are sent by this map from now on.
  void use_map(const policy::ExpertMap& map);
  // A pair of the sequence in this slot goes to the rank.
  void add(sched::SourceSlot slot, Rank to) {
    ++by_slot_[first_of(slot) + static_cast<std::size_t>(to.value())];
  }
  // The sequence leaves the slot: its pairs are the request's.
  void settle(sched::SourceSlot slot, RequestId request);
  // The same where nobody asks for them.
  void discard(sched::SourceSlot slot);
  // Of a request that has ended; it is forgotten. Nothing by rank where none are known.
  [[nodiscard]] cluster::ExpertRows take(RequestId request);

  [[nodiscard]] std::size_t requests() const { return by_request_.size(); }

 private:
  [[nodiscard]] std::size_t first_of(sched::SourceSlot slot) const {
    return static_cast<std::size_t>(slot.value()) * ranks_;
  }

  std::size_t ranks_;
  std::uint64_t map_ = 0;               // fingerprint
  std::vector<std::uint32_t> by_slot_;  // [slots, ranks]
  std::unordered_map<RequestId, std::vector<double>> by_request_;
};

}  // namespace gimbal::engine
