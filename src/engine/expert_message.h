#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/ids.h"
#include "comm/in_process/channel.h"
#include "sched/expert_post.h"

namespace gimbal::engine {

// What ranks of a group say to each other's expert services. Messages carry labels only: all ranks
// keep their rows in one store, where services read and write them.

struct PostHeader {
  enum class Kind : std::uint8_t {
    kRows,   // of one layer, perhaps none
    kLeave,  // the source takes part in the gang step no more
  };
  Kind kind = Kind::kRows;
  LayerIndex layer;
  std::uint64_t step = sched::kSolo;
  std::uint64_t members = 0;  // of the gang step
  std::uint32_t map_version = 0;
  TimePoint arrives{};    // not to be looked at before (an imposed delay)
  TimePoint since{};      // from when on it waits for the service: sent, or arrived if delayed
  Duration hold_limit{};  // how long the service holds the (step, layer) for others; 0: no limit
};
// A row for one expert: its only output is PostedRow::first_output.
struct PostedEntry {
  sched::PostedRow row;
  ExpertId expert;
};
using PostChannel = comm::Channel<PostHeader, PostedEntry>;

// Outputs that a service has written, and what of its run they account for.
struct ReturnHeader {
  TimePoint arrives{};
  Duration service{};
  double distinct_experts = 0;
};
using ReturnChannel = comm::Channel<ReturnHeader, sched::ExpertEntry>;

}  // namespace gimbal::engine
