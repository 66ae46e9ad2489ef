#include "engine/executor_batch.h"

#include <algorithm>

namespace gimbal::engine {

void ExecutorBatch::reset(BatchId new_id) {
  id = new_id;
  rows.reset(0);
  sequences.clear();
  cursor = until = Cursor{};
  state = State::kStanding;
  yielding = posted = has_gaps = false;
  attention = service = wait = Duration::zero();
  distinct_experts = 0;
  waiting_since.reset();
  gang_step = sched::kSolo;
  gang_members = 0;
}

void ExecutorBatch::compact() {
  if (!has_gaps) return;
  // Merges and splits leave sequences in any order of rows; the lowest moves first, so that nothing
  // is overwritten before it has moved.
  std::vector<ExecutorSequence*> by_place;
  for (ExecutorSequence& sequence : sequences)
    by_place.push_back(&sequence);
  std::sort(by_place.begin(), by_place.end(),
            [](const auto* a, const auto* b) { return a->first_row < b->first_row; });
  std::int64_t next = 0;
  for (ExecutorSequence* sequence : by_place) {
    rows.move(sequence->first_row, next, sequence->step.rows);
    sequence->first_row = next;
    next += sequence->step.rows;
  }
  rows.truncate(next);
  has_gaps = false;
}

}  // namespace gimbal::engine
