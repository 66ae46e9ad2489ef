#pragma once

#include <iosfwd>

#include "base/result.h"
#include "sched/replay.h"

namespace gimbal::sim {

// Replays what an engine recorded (`serve --record`) in the simulator: the scheduler gets the
// recorded arrivals at their times on virtual time, and a CostModelExecutor runs its batches, whose
// leases end when and where the record says instead of by a cost model, with the tokens and the
// measured times that are recorded. The executor's answers (which batch, whose rows, who gets a
// token) must be the recorded ones, and the scheduler's decisions too, line by line.
//
// kInvalidArgument names the line: as sched::replay. A record that was cut off in its last line or
// step is replayed as far as it goes.
[[nodiscard]] Result<sched::ReplayReport> replay_record(std::istream& record);

}  // namespace gimbal::sim
