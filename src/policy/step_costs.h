#pragma once

#include "policy/step_time_model.h"

namespace gimbal::policy {

// A fitted step-time model as a value: what an engine publishes of its StepTimeModel.
//   step_ms(rows) = attention + rho · service, with the distinct experts of `rows` rows taken as
//   ratio · E · (1 − (1 − k/E)^rows).
// Coefficients below 0 count as 0.
struct StepCosts {
  StepTimeCoefficients fitted;
  ExpertShape experts;
  double expert_ratio = 1;  // distinct experts to what uniform choices touch; (0, 1]

  [[nodiscard]] double step_ms(const StepShape& step, double pressure = 1) const;
  // Fitted ms a prefill token takes beside decodes (c1 without the streaming of experts).
  [[nodiscard]] double prefill_token_ms() const;
};

}  // namespace gimbal::policy
