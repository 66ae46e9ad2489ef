// Vectors of float for every SIMD target: loads and stores of f32 and bf16, tails, and an
// exponential that gives a value the same bits in every lane, position and call. Included once per
// target.
#if defined(GIMBAL_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GIMBAL_KERNELS_SIMD_INL_H_
#undef GIMBAL_KERNELS_SIMD_INL_H_
#else
#define GIMBAL_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using IntTag = hn::RebindToSigned<FloatTag>;
using WordTag = hn::RebindToUnsigned<FloatTag>;
using HalfTag = hn::Rebind<std::uint16_t, FloatTag>;

inline constexpr std::int64_t kLanes = HWY_LANES(float);

HWY_INLINE Floats load(const float* from) {
  return hn::LoadU(FloatTag(), from);
}
HWY_INLINE Floats load(const tensor::BFloat16* from) {
  const auto halves = hn::LoadU(HalfTag(), reinterpret_cast<const std::uint16_t*>(from));
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(WordTag(), halves)));
}

HWY_INLINE void store(Floats value, float* to) {
  hn::StoreU(value, FloatTag(), to);
}
// Rounds as tensor::to_bfloat16 does.
HWY_INLINE void store(Floats value, tensor::BFloat16* to) {
  const WordTag words;
  const auto bits = hn::BitCast(words, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1U));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(words, 0x7fffU)), odd);
  const auto quiet = hn::Or(bits, hn::Set(words, 0x400000U));
  const auto chosen = hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(value)), quiet, rounded);
  const auto upper = hn::BitCast(IntTag(), hn::ShiftRight<16>(chosen));
  hn::StoreU(hn::DemoteTo(HalfTag(), upper), HalfTag(), reinterpret_cast<std::uint16_t*>(to));
}

// The first `count` lanes, count < kLanes; the others are zero, or are not stored.
template <class T>
HWY_INLINE Floats load_first(const T* from, std::int64_t count) {
  alignas(64) T lanes[kLanes] = {};
  std::memcpy(lanes, from, static_cast<std::size_t>(count) * sizeof(T));
  return load(lanes);
}
template <class T>
HWY_INLINE void store_first(Floats value, T* to, std::int64_t count) {
  alignas(64) T lanes[kLanes];
  store(value, lanes);
  std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(T));
}

// 2^x, relative error < 2e-7; exactly 0 below -126.5 (and for -infinity). Requires: x <= 127.
HWY_INLINE Floats exp2_below(Floats x) {
  const FloatTag f;
  const auto inside = hn::Ge(x, hn::Set(f, -126.5F));
  const auto whole = hn::Round(x);
  const auto r = hn::Sub(x, whole);
  auto p = hn::Set(f, 0.001326472731307149F);
  p = hn::MulAdd(p, r, hn::Set(f, 0.009671512991189957F));
  p = hn::MulAdd(p, r, hn::Set(f, 0.05550733581185341F));
  p = hn::MulAdd(p, r, hn::Set(f, 0.24022242426872253F));
  p = hn::MulAdd(p, r, hn::Set(f, 0.6931470036506653F));
  p = hn::MulAdd(p, r, hn::Set(f, 1.0F));
#if HWY_TARGET == HWY_AVX3
  return Floats{_mm512_maskz_scalef_ps(inside.raw, p.raw, whole.raw)};
#else
  const IntTag i;
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(i, whole), hn::Set(i, 127)));
  return hn::IfThenElseZero(inside, hn::Mul(p, hn::BitCast(f, exponent)));
#endif
}
// The same, clamped above 127.
HWY_INLINE Floats exp2(Floats x) {
  return exp2_below(hn::Min(x, hn::Set(FloatTag(), 127.0F)));
}
inline constexpr float kLog2E = 1.44269504088896341F;

// The sum and the maximum of the lanes, in an order that depends on kLanes alone.
HWY_INLINE float sum_lanes(Floats value) {
  return hn::GetLane(hn::SumOfLanes(FloatTag(), value));
}
HWY_INLINE float max_lanes(Floats value) {
  return hn::GetLane(hn::MaxOfLanes(FloatTag(), value));
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
