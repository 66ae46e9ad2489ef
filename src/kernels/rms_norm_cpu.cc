#include "base/check.h"
#include "kernels/rms_norm.h"
#include "kernels/row_chunks.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/rms_norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

template <class In, class Out>
void rms_norm_typed(const tensor::ConstMatrixView& in, const float* weight, float epsilon,
                    const tensor::MatrixView& out) {
  for (std::int64_t r = 0; r < in.rows; ++r) {
    const In* from = in.row_as<In>(r);
    scale_by_weight(from, weight, rms_scale(from, in.cols, epsilon), in.cols, out.row_as<Out>(r));
  }
}

void rms_norm_rows(const tensor::ConstMatrixView& in, const float* weight, float epsilon,
                   const tensor::MatrixView& out) {
  using tensor::BFloat16;
  const bool to_bf16 = out.dtype == tensor::DType::kBF16;
  if (in.dtype == tensor::DType::kBF16) {
    to_bf16 ? rms_norm_typed<BFloat16, BFloat16>(in, weight, epsilon, out)
            : rms_norm_typed<BFloat16, float>(in, weight, epsilon, out);
  } else {
    to_bf16 ? rms_norm_typed<float, BFloat16>(in, weight, epsilon, out)
            : rms_norm_typed<float, float>(in, weight, epsilon, out);
  }
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gimbal::kernels {

void rms_norm(const KernelContext& context, tensor::ConstMatrixView in,
              std::span<const float> weight, float epsilon, tensor::MatrixView out) {
  GIMBAL_CHECK(in.cols == static_cast<std::int64_t>(weight.size()));
  GIMBAL_CHECK(out.rows == in.rows && out.cols == in.cols);
  if (context.isa == Isa::kReference) return rms_norm_reference(in, weight, epsilon, out);
  const auto rows = GIMBAL_SELECT_SIMD(context.isa, rms_norm_rows);
  for_row_chunks(context, in.rows, grain_of(in.cols), [&](std::int64_t begin, std::int64_t end) {
    rows(in.rows_at(begin, end - begin), weight.data(), epsilon, out.rows_at(begin, end - begin));
  });
}

}  // namespace gimbal::kernels
#endif
