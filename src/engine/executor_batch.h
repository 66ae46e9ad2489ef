#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/ids.h"
#include "model/batch_rows.h"
#include "sched/batch_executor.h"
#include "sched/expert_post.h"

namespace gimbal::engine {

// One sequence's rows in mid-forward: [first_row, first_row + step.rows) of its batch.
struct ExecutorSequence {
  sched::SequenceStep step;
  std::int64_t first_row = 0;
  sched::SourceSlot slot;  // among the rank's outstanding expert rows
};

// A batch as ModelExecutor keeps it, on one region of its RowStore. Value type but for the region,
// which belongs to whoever holds the batch.
struct ExecutorBatch {
  enum class State : std::uint8_t { kStanding, kRunning, kSuspended, kFinishing };

  explicit ExecutorBatch(model::BatchRows memory) : rows(memory) {}

  // Makes it a new, empty batch at Cursor{} on the same region.
  void reset(BatchId new_id);
  // Closes the gaps that dropped and split-off sequences left in the rows.
  void compact();

  BatchId id;
  model::BatchRows rows;
  std::vector<ExecutorSequence> sequences;
  Cursor cursor;
  Cursor until;
  State state = State::kStanding;
  bool yielding = false;
  bool posted = false;    // inside the experts stage: rows are at the service, or came back
  bool has_gaps = false;  // rows that belong to no sequence any more
  Duration attention{};
  Duration service{};
  Duration wait{};
  double distinct_experts = 0;
  TimePoint started{};
  TimePoint stage_started{};  // the running stage
  // Set while outputs are missing that others have to bring.
  std::optional<TimePoint> waiting_since;
  std::uint64_t gang_step = sched::kSolo;
  std::uint64_t gang_members = 0;
};

}  // namespace gimbal::engine
