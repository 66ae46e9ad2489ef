#include "policy/step_costs.h"

#include <algorithm>
#include <cmath>

namespace gimbal::policy {
namespace {

double positive(double value) {
  return std::max(value, 0.0);
}

}  // namespace

double StepCosts::step_ms(const StepShape& step, double pressure) const {
  const auto& a = fitted.attention;
  const auto& e = fitted.service;
  const double missed =
      experts.experts > 0
          ? std::pow(1 - static_cast<double>(experts.choices_per_row) / experts.experts,
                     step.rows())
          : 1;
  const double slower_context = step.prefill > 0 ? positive(a[5]) * step.decode_context : 0;
  return slower_context + positive(a[0]) + positive(a[1]) * step.prefill +
         positive(a[2]) * step.decodes + positive(a[3]) * step.decode_context +
         positive(a[4]) * step.prefill_context +
         pressure * (positive(e[0]) + positive(e[1]) * step.rows() +
                     positive(e[2]) * expert_ratio * experts.experts * (1 - missed));
}

double StepCosts::prefill_token_ms() const {
  return positive(fitted.attention[1]) + positive(fitted.service[1]);
}

}  // namespace gimbal::policy
