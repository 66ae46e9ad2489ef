#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sched/expert_post.h"

namespace gimbal::sched {

struct OutstandingRowsOptions {
  int max_slots = 0;    // sequences in mid-step: SourceSlots are in [0, max_slots)
  int max_outputs = 0;  // output ids are in [0, max_outputs)
};

// What a bunch of outputs brought. Reused from call to call, so that completing allocates nothing.
struct Completion {
  std::vector<SourceSlot> complete;  // have nothing missing any more, in order of their last output
  std::vector<int> dropped;          // indices of outputs that are not current: do not use them
};

// The source's end of an expert exchange: which outputs the sequences of one rank still miss. An
// output counts only if its epoch and map version are the slot's: what was asked for before a
// cancel, an eviction or a re-post may come back at any time later and is dropped.
//
// Costs: O(1) a row or output, but drop and repost O(max_outputs). Nothing allocates after the
// constructor but the growth of a Completion. One thread; owned by the rank's executor.
class OutstandingRows {
 public:
  // Requires: both options >= 1.
  explicit OutstandingRows(const OutstandingRowsOptions& options);

  // The label of what this slot posts now.
  [[nodiscard]] std::uint32_t epoch(SourceSlot slot) const { return at(slot).epoch; }
  // Outputs that the slot waits for.
  [[nodiscard]] int missing(SourceSlot slot) const { return at(slot).missing; }
  [[nodiscard]] int missing() const { return missing_; }  // of all slots

  // The rows were posted: each waits for k outputs. Requires: the rows' epochs are their slots';
  // nobody waits for one of their outputs; a slot that misses outputs has posted them under the
  // same map version.
  void post(const ExpertPost& post);

  // The outputs arrived. `what` is overwritten. Those of another epoch or map version are dropped.
  // Requires: a current output was missing (an expert answers once).
  void complete(std::span<const ExpertEntry> outputs, Completion& what);

  // The sequence waits for nothing any more (cancelled, evicted, its slot is reused): its epoch
  // rises and what it still missed is forgotten. Returns the number of forgotten outputs.
  int drop(SourceSlot slot);

  // What the slot still misses has to be asked for again, under `map_version`: its epoch rises, the
  // outputs that it has stay. Sets `outputs` to the missing ones, ascending; the caller posts them
  // to the services, not to post().
  void repost(SourceSlot slot, std::uint32_t map_version, std::vector<std::int32_t>& outputs);

 private:
  struct Slot {
    std::uint32_t epoch = 0;
    std::uint32_t map_version = 0;
    std::int32_t missing = 0;
  };

  [[nodiscard]] const Slot& at(SourceSlot slot) const;
  [[nodiscard]] Slot& at(SourceSlot slot);

  std::vector<Slot> slots_;
  std::vector<std::int32_t> waiting_;  // by output: the slot that waits for it, or kNobody
  int missing_ = 0;
};

}  // namespace gimbal::sched
