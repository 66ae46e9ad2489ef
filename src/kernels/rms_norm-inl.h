// The RMS norm of one vector, for every SIMD target. Included once per target.
#if defined(GIMBAL_KERNELS_RMS_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GIMBAL_KERNELS_RMS_NORM_INL_H_
#undef GIMBAL_KERNELS_RMS_NORM_INL_H_
#else
#define GIMBAL_KERNELS_RMS_NORM_INL_H_
#endif

#include <cmath>
#include <cstdint>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

// 1 / sqrt(mean(in^2) + epsilon). Four sums, whatever n: the order depends on n alone.
template <class T>
HWY_INLINE float rms_scale(const T* in, std::int64_t n, float epsilon) {
  const FloatTag f;
  Floats sum0 = hn::Zero(f), sum1 = hn::Zero(f), sum2 = hn::Zero(f), sum3 = hn::Zero(f);
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    const Floats x0 = load(in + i), x1 = load(in + i + kLanes);
    const Floats x2 = load(in + i + 2 * kLanes), x3 = load(in + i + 3 * kLanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
    sum2 = hn::MulAdd(x2, x2, sum2);
    sum3 = hn::MulAdd(x3, x3, sum3);
  }
  for (; i < n; i += kLanes) {
    const Floats x = i + kLanes <= n ? load(in + i) : load_first(in + i, n - i);
    sum0 = hn::MulAdd(x, x, sum0);
  }
  const float sum = sum_lanes(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)));
  return 1.0F / std::sqrt(sum / static_cast<float>(n) + epsilon);
}

// out[i] = in[i] * scale * weight[i]; out may be in.
template <class In, class Out>
HWY_INLINE void scale_by_weight(const In* in, const float* weight, float scale, std::int64_t n,
                                Out* out) {
  const Floats scales = hn::Set(FloatTag(), scale);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store(hn::Mul(hn::Mul(load(in + i), scales), load(weight + i)), out + i);
  }
  if (i < n) {
    const Floats x = hn::Mul(load_first(in + i, n - i), scales);
    store_first(hn::Mul(x, load_first(weight + i, n - i)), out + i, n - i);
  }
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
