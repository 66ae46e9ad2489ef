#include "policy/step_costs.h"

#include <cmath>

namespace gimbal::policy {

double StepCosts::step_ms(const StepShape& step, double pressure) const {
  const auto& a = fitted.attention;
  const auto& e = fitted.service;
  const double missed =
      experts.experts > 0
          ? std::pow(1 - static_cast<double>(experts.choices_per_row) / experts.experts,
                     step.rows())
          : 1;
  const double slower_context = step.prefill > 0 ? clipped(a[5]) * step.decode_context : 0;
  return slower_context + clipped(a[0]) + clipped(a[1]) * step.prefill +
         clipped(a[2]) * step.decodes + clipped(a[3]) * step.decode_context +
         clipped(a[4]) * step.prefill_context +
         pressure * (clipped(e[0]) + clipped(e[1]) * step.rows() +
                     clipped(e[2]) * expert_ratio * experts.experts * (1 - missed));
}

double StepCosts::prefill_token_ms() const {
  return clipped(fitted.attention[1]) + clipped(fitted.service[1]);
}

}  // namespace gimbal::policy
