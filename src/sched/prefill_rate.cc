#include "sched/prefill_rate.h"

#include <algorithm>

namespace gimbal::sched {
namespace {

constexpr double kDecay = 0.95;        // a step
constexpr double kLeastPortion = 0.1;  // of a mixed step's time that its prefill surely took

}  // namespace

void PrefillRate::note_step(Duration ran, int prefill_rows, int decodes) {
  const double ms = to_ms(ran);
  if (ms <= 0) return;
  if (prefill_rows == 0) {
    decode_step_ms_ = decode_step_ms_ == 0 ? ms : kDecay * decode_step_ms_ + (1 - kDecay) * ms;
    return;
  }
  const double prefill_ms = decodes == 0 ? ms : std::max(ms - decode_step_ms_, kLeastPortion * ms);
  prefill_ms_ = kDecay * prefill_ms_ + prefill_ms;
  prefill_tokens_ = kDecay * prefill_tokens_ + prefill_rows;
}

policy::PrefillCost PrefillRate::cost() const {
  policy::PrefillCost cost = initial_;
  if (prefill_tokens_ > 0) cost.ms_per_token = prefill_ms_ / prefill_tokens_;
  return cost;
}

std::optional<double> PrefillRate::tokens_per_second() const {
  if (prefill_tokens_ <= 0) return std::nullopt;
  return prefill_tokens_ / prefill_ms_ * 1000;
}

}  // namespace gimbal::sched
