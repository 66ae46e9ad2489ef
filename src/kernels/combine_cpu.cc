#include "base/check.h"
#include "kernels/combine.h"
#include "kernels/row_chunks.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/combine_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

// to[i] += sum over j of weights[j] * from[j * stride + i], j ascending.
template <class T>
HWY_INLINE void add_weighted(const float* weights, const T* from, std::int64_t stride,
                             std::int64_t count, std::int64_t n, float* to) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Floats sum = load(to + i);
    for (std::int64_t j = 0; j < count; ++j) {
      sum = hn::MulAdd(hn::Set(FloatTag(), weights[j]), load(from + j * stride + i), sum);
    }
    store(sum, to + i);
  }
  if (i == n) return;
  Floats sum = load_first(to + i, n - i);
  for (std::int64_t j = 0; j < count; ++j) {
    sum =
        hn::MulAdd(hn::Set(FloatTag(), weights[j]), load_first(from + j * stride + i, n - i), sum);
  }
  store_first(sum, to + i, n - i);
}

template <class T>
void add_slots_typed(const float* weights, std::int64_t slots, const tensor::ConstMatrixView& from,
                     const tensor::MatrixView& hidden) {
  for (std::int64_t r = 0; r < hidden.rows; ++r) {
    add_weighted(weights + r * slots, from.row_as<T>(r * slots), from.stride, slots, hidden.cols,
                 hidden.row_as<float>(r));
  }
}

void add_slots(const float* weights, std::int64_t slots, const tensor::ConstMatrixView& from,
               const tensor::MatrixView& hidden) {
  if (from.dtype == tensor::DType::kBF16) {
    add_slots_typed<tensor::BFloat16>(weights, slots, from, hidden);
  } else {
    add_slots_typed<float>(weights, slots, from, hidden);
  }
}

void add_gated(const float* logits, const tensor::ConstMatrixView& from,
               const tensor::MatrixView& hidden) {
  for (std::int64_t r = 0; r < hidden.rows; ++r) {
    const Floats power = exp2(hn::Set(FloatTag(), -kLog2E * logits[r]));
    const float gate = 1.0F / (1.0F + hn::GetLane(power));
    add_slots(&gate, 1, from.rows_at(r, 1), hidden.rows_at(r, 1));
  }
}

void add_plain(const tensor::ConstMatrixView& from, const tensor::MatrixView& hidden) {
  constexpr float kOne = 1.0F;  // a product with 1 is exact, so this is the plain sum
  for (std::int64_t r = 0; r < hidden.rows; ++r) {
    add_slots(&kOne, 1, from.rows_at(r, 1), hidden.rows_at(r, 1));
  }
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gimbal::kernels {

void combine(const KernelContext& context, std::span<const float> weights,
             tensor::ConstMatrixView outputs, tensor::MatrixView hidden) {
  if (hidden.rows == 0) return;
  const std::int64_t k = outputs.rows / hidden.rows;
  GIMBAL_CHECK(hidden.dtype == tensor::DType::kF32 && outputs.cols == hidden.cols);
  GIMBAL_CHECK(outputs.rows == k * hidden.rows);
  GIMBAL_CHECK(static_cast<std::int64_t>(weights.size()) == outputs.rows);
  if (context.isa == Isa::kReference) return combine_reference(weights, outputs, hidden);
  const auto add = GIMBAL_SELECT_SIMD(context.isa, add_slots);
  for_row_chunks(context, hidden.rows, grain_of(hidden.cols * k),
                 [&](std::int64_t begin, std::int64_t end) {
                   add(weights.data() + begin * k, k, outputs.rows_at(begin * k, (end - begin) * k),
                       hidden.rows_at(begin, end - begin));
                 });
}

void combine_shared(const KernelContext& context, std::span<const float> gate_logits,
                    tensor::ConstMatrixView shared, tensor::MatrixView hidden) {
  GIMBAL_CHECK(hidden.dtype == tensor::DType::kF32 && shared.cols == hidden.cols);
  GIMBAL_CHECK(shared.rows == hidden.rows);
  GIMBAL_CHECK(static_cast<std::int64_t>(gate_logits.size()) == hidden.rows);
  if (context.isa == Isa::kReference) return combine_shared_reference(gate_logits, shared, hidden);
  const auto add = GIMBAL_SELECT_SIMD(context.isa, add_gated);
  for_row_chunks(context, hidden.rows, grain_of(hidden.cols),
                 [&](std::int64_t begin, std::int64_t end) {
                   add(gate_logits.data() + begin, shared.rows_at(begin, end - begin),
                       hidden.rows_at(begin, end - begin));
                 });
}

void add_rows(const KernelContext& context, tensor::ConstMatrixView rows,
              tensor::MatrixView hidden) {
  GIMBAL_CHECK(hidden.dtype == tensor::DType::kF32 && rows.cols == hidden.cols);
  GIMBAL_CHECK(rows.rows == hidden.rows);
  if (context.isa == Isa::kReference) return add_rows_reference(rows, hidden);
  const auto add = GIMBAL_SELECT_SIMD(context.isa, add_plain);
  for_row_chunks(context, hidden.rows, grain_of(hidden.cols),
                 [&](std::int64_t begin, std::int64_t end) {
                   add(rows.rows_at(begin, end - begin), hidden.rows_at(begin, end - begin));
                 });
}

}  // namespace gimbal::kernels
#endif
