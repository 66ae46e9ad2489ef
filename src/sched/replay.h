#pragma once

#include <cstdint>
#include <iosfwd>

#include "base/result.h"

namespace gimbal::sched {

struct ReplayReport {
  std::uint64_t calls = 0;  // of StepLoop::on
  std::uint64_t plans = 0;
  std::uint64_t orders = 0;  // none in a record without them
};

// Gives a fresh StepLoop the events of a record (see EventRecorder) at their times and compares
// what it decides with what was recorded, line by line. A record that cannot be read, whose events
// could not have happened, or whose decisions differ is kInvalidArgument and names the line.
// A record that was cut off in its last line or step is replayed as far as it goes.
[[nodiscard]] Result<ReplayReport> replay(std::istream& record);

}  // namespace gimbal::sched
