#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "base/result.h"
#include "cost/cost_model.h"

namespace gimbal::cost {

// A step that an engine ran, and what it took.
struct MeasuredStep {
  RankWork work;
  double distinct_experts = 0;  // read for its rows, summed over layers
  double attention_ms = 0;      // the rank's own stages, with embedding, head and sampling
  double service_ms = 0;        // experts
  double wait_ms = 0;           // for experts elsewhere
  double whole_ms = 0;          // from when it was planned to when its end was handled
  std::uint64_t gang_step = 0;  // that it was part of, with other ranks; 0: none

  bool operator==(const MeasuredStep&) const = default;
};

// The steps of one engine's record (`serve --record`, sched::EventRecorder), in order. Steps that
// failed or lost members on the way are left out, as is one that the record ends in. Errors name
// the line and the field. A line that was cut off at the record's end is no error.
[[nodiscard]] Result<std::vector<MeasuredStep>> read_step_log(std::istream& record);
// The same from a file; errors name it.
[[nodiscard]] Result<std::vector<MeasuredStep>> read_step_log(const std::string& path);

}  // namespace gimbal::cost
