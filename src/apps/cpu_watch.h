#pragma once

#include <optional>
#include <string_view>

#include "base/clock.h"

namespace gimbal::apps {

// CPU time that everybody has used since the machine started, in clock ticks, from the text of
// /proc/stat: user, nice, system, interrupts, and what the host took away. Nothing where the text
// is not of that form.
[[nodiscard]] std::optional<double> busy_ticks(std::string_view proc_stat);

// Notes how much CPU time others took while something of ours ran. One thread.
class CpuWatch {
 public:
  CpuWatch();

  // Seconds of CPU time since the start that this process did not use; where the system does not
  // tell, 0. The system counts in ticks, usually of 10 ms a CPU.
  [[nodiscard]] double foreign_seconds() const;
  // Whether others took so much, 5 % of one CPU's time and more than the counting is exact to, that
  // what was measured meanwhile may be slower than it should be.
  [[nodiscard]] bool disturbed() const;

 private:
  TimePoint started_;
  double busy_;
  double own_;
};

}  // namespace gimbal::apps
