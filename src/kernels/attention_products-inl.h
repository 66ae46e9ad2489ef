// Products of weights with the rows of a key or value panel, f32 or interleaved pairs of bf16, on
// float multiply-adds. Included once per target.
#if defined(GIMBAL_KERNELS_ATTENTION_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GIMBAL_KERNELS_ATTENTION_PRODUCTS_INL_H_
#undef GIMBAL_KERNELS_ATTENTION_PRODUCTS_INL_H_
#else
#define GIMBAL_KERNELS_ATTENTION_PRODUCTS_INL_H_
#endif

#include <cstdint>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {
namespace attention_simd {

using tensor::BFloat16;

// sum[r][v] += weights[r * stride] * vectors[v]
template <int kRows, int kVectors>
HWY_INLINE void add_products(const float* weights, std::int64_t stride,
                             const Floats (&vectors)[kVectors], Floats (&sum)[kRows][kVectors]) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const Floats weight = hn::Set(FloatTag(), weights[r * stride]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = hn::MulAdd(weight, vectors[v], sum[r][v]);
  }
}

// sum[r][v] += weights[r * stride + i] * rows i of a panel, i from begin to end in order. Vector v
// is at from[v]; rows are row_size elements long. Multiplies nothing outside of [begin, end): a
// panel's other rows may hold anything.
template <int kRows, int kVectors>
HWY_INLINE void multiply_panel(const float* weights, std::int64_t stride, std::int64_t begin,
                               std::int64_t end, const float* const (&from)[kVectors],
                               std::int64_t row_size, Floats (&sum)[kRows][kVectors]) {
  for (std::int64_t i = begin; i < end; ++i) {
    Floats row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      row[v] = load(from[v] + i * row_size);
    add_products<kRows, kVectors>(weights + i, stride, row, sum);
  }
}

using Words = hn::Vec<WordTag>;
HWY_INLINE Floats even_of(Words pairs) {
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(pairs));
}
HWY_INLINE Floats odd_of(Words pairs) {
  return hn::BitCast(FloatTag(), hn::And(pairs, hn::Set(WordTag(), 0xffff0000U)));
}
HWY_INLINE Words load_pairs(const BFloat16* from) {
  return hn::LoadU(WordTag(), reinterpret_cast<const std::uint32_t*>(from));
}

// The same for a panel whose rows are interleaved in pairs.
template <int kRows, int kVectors>
HWY_INLINE void multiply_panel(const float* weights, std::int64_t stride, std::int64_t begin,
                               std::int64_t end, const BFloat16* const (&from)[kVectors],
                               std::int64_t row_size, Floats (&sum)[kRows][kVectors]) {
  Floats row[kVectors];
  std::int64_t i = begin;
  if (i % 2 != 0) {
    for (int v = 0; v < kVectors; ++v)
      row[v] = odd_of(load_pairs(from[v] + (i - 1) * row_size));
    add_products<kRows, kVectors>(weights + i, stride, row, sum);
    ++i;
  }
  for (; i + 2 <= end; i += 2) {
    Words pairs[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      pairs[v] = load_pairs(from[v] + i * row_size);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      row[v] = even_of(pairs[v]);
    add_products<kRows, kVectors>(weights + i, stride, row, sum);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      row[v] = odd_of(pairs[v]);
    add_products<kRows, kVectors>(weights + i + 1, stride, row, sum);
  }
  if (i < end) {
    for (int v = 0; v < kVectors; ++v)
      row[v] = even_of(load_pairs(from[v] + i * row_size));
    add_products<kRows, kVectors>(weights + i, stride, row, sum);
  }
}

// Splits rows of pairs into pairs of rows.
HWY_INLINE void widen_panel(const BFloat16* from, std::int64_t row_size, std::int64_t rows,
                            float* to) {
  for (std::int64_t row = 0; row < rows; row += 2) {
    for (std::int64_t at = 0; at < row_size; at += kLanes) {
      const Words pairs = load_pairs(from + row * row_size + 2 * at);
      store(even_of(pairs), to + row * row_size + at);
      store(odd_of(pairs), to + (row + 1) * row_size + at);
    }
  }
}

}  // namespace attention_simd
}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
