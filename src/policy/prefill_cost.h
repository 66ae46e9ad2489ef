#pragma once

namespace gimbal::policy {

// Predicted prefill time, ms = c1·n + c_q·n². Value type.
struct PrefillCost {
  double ms_per_token = 0.1;         // c1
  double ms_per_square_token = 0.0;  // c_q: attention, which long prompts feel

  [[nodiscard]] double ms(double tokens) const {
    return tokens * (ms_per_token + tokens * ms_per_square_token);
  }
};

}  // namespace gimbal::policy
