// Maximum and sum of exponentials of a row of logits, for every SIMD target. Included once per
// target.
#if defined(GIMBAL_KERNELS_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GIMBAL_KERNELS_SOFTMAX_INL_H_
#undef GIMBAL_KERNELS_SOFTMAX_INL_H_
#else
#define GIMBAL_KERNELS_SOFTMAX_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

// Requires: n > 0.
HWY_INLINE float row_maximum(const float* row, std::int64_t n) {
  Floats highest = hn::Set(FloatTag(), -std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    highest = hn::Max(highest, load(row + i));
  float maximum = max_lanes(highest);
  for (; i < n; ++i)
    maximum = std::max(maximum, row[i]);
  return maximum;
}

// exp(x - maximum), the same for a value in any lane.
HWY_INLINE Floats exp_below(Floats x, Floats maximum) {
  return exp2(hn::Mul(hn::Sub(x, maximum), hn::Set(FloatTag(), kLog2E)));
}

// The sum of exp(row[i] - maximum); the order depends on n alone.
HWY_INLINE float sum_of_exponentials(const float* row, std::int64_t n, float maximum) {
  const Floats subtract = hn::Set(FloatTag(), maximum);
  Floats sum0 = hn::Zero(FloatTag()), sum1 = hn::Zero(FloatTag());
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sum0 = hn::Add(sum0, exp_below(load(row + i), subtract));
    sum1 = hn::Add(sum1, exp_below(load(row + i + kLanes), subtract));
  }
  for (; i < n; i += kLanes) {
    const std::int64_t rest = n - i;
    if (rest >= kLanes) {
      sum0 = hn::Add(sum0, exp_below(load(row + i), subtract));
    } else {
      const auto inside = hn::FirstN(FloatTag(), static_cast<std::size_t>(rest));
      const Floats value = exp_below(load_first(row + i, rest), subtract);
      sum0 = hn::Add(sum0, hn::IfThenElseZero(inside, value));
    }
  }
  return sum_lanes(hn::Add(sum0, sum1));
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
