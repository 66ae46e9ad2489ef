#pragma once

#include <optional>

#include "base/clock.h"
#include "policy/prefill_cost.h"

namespace gimbal::sched {

// What a prefill token costs on this engine, measured from finished steps: the time of steps with
// prefill rows, less what their decodes alone would take, over their rows; older steps count less.
// Unlike policy::StepTimeModel it has an answer after one step, never 0, and does not extrapolate:
// the queue's bound goes by it. Value type.
class PrefillRate {
 public:
  explicit PrefillRate(const policy::PrefillCost& initial) : initial_(initial) {}

  // A finished step: how long it ran (waits left out) and its rows.
  void note_step(Duration ran, int prefill_rows, int decodes);

  // The initial cost with the measured ms a token, once there is one.
  [[nodiscard]] policy::PrefillCost cost() const;
  [[nodiscard]] std::optional<double> tokens_per_second() const;

 private:
  policy::PrefillCost initial_;
  double decode_step_ms_ = 0;  // of steps without prefill
  double prefill_ms_ = 0;      // decayed sums
  double prefill_tokens_ = 0;
};

}  // namespace gimbal::sched
