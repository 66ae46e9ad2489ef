#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/strong_id.h"
#include "sched/request.h"

namespace gimbal::sched {

// A sequence in mid-step at the source of an exchange: a small index, reused, told apart by epochs.
using SourceSlot = StrongId<struct SourceSlotTag, std::int32_t>;

// A gang step's number; rows of no gang step are solo.
inline constexpr std::uint64_t kSolo = 0;

// A row that a source sends to the k experts that its router chose.
struct PostedRow {
  SourceSlot slot{};
  std::uint32_t epoch = 0;        // OutstandingRows::epoch(slot)
  std::int32_t row = 0;           // where the source keeps the row
  std::int32_t first_output = 0;  // its outputs go to [first_output, first_output + k) there
  RequestClass request_class = RequestClass::kLatencySensitive;
};

// What one source sends at one layer to one service. The spans hold during the call that takes it.
struct ExpertPost {
  Rank source;
  LayerIndex layer;
  std::uint64_t step = kSolo;
  std::uint64_t members = 0;      // of the gang step, a bit a rank; 0: solo
  std::uint32_t map_version = 0;  // of the expert map that routed the rows
  std::span<const PostedRow> rows;
  std::span<const std::int32_t> experts;  // [rows, k], as the router writes them; k from the sizes
};

// One row at one expert: a label that travels with the work and comes back with the output.
struct ExpertEntry {
  SourceSlot slot{};
  std::uint32_t epoch = 0;
  std::int32_t row = 0;
  std::int32_t output = 0;
  std::uint32_t map_version = 0;
  std::uint64_t step = kSolo;
  std::int16_t source = 0;  // rank
  RequestClass request_class = RequestClass::kLatencySensitive;

  bool operator==(const ExpertEntry&) const = default;
};

}  // namespace gimbal::sched
