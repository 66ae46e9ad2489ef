#include <cmath>

#include "base/check.h"
#include "kernels/row_chunks.h"
#include "kernels/row_statistics.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/row_statistics_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

void statistics_of_rows(const tensor::ConstMatrixView& logits, RowStatistics* statistics) {
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    const float* row = logits.row_as<float>(r);
    const float maximum = row_maximum(row, logits.cols);
    std::int64_t at = 0;
    while (at < logits.cols && row[at] != maximum)
      ++at;
    const float sum = sum_of_exponentials(row, logits.cols, maximum);
    statistics[r] = {static_cast<std::int32_t>(at < logits.cols ? at : 0), maximum,
                     static_cast<float>(maximum + std::log(static_cast<double>(sum)))};
  }
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gimbal::kernels {

void row_statistics(const KernelContext& context, tensor::ConstMatrixView logits,
                    std::span<RowStatistics> statistics) {
  GIMBAL_CHECK(logits.dtype == tensor::DType::kF32 && logits.cols > 0);
  GIMBAL_CHECK(static_cast<std::int64_t>(statistics.size()) == logits.rows);
  if (context.isa == Isa::kReference) return row_statistics_reference(logits, statistics);
  const auto rows = GIMBAL_SELECT_SIMD(context.isa, statistics_of_rows);
  for_row_chunks(context, logits.rows, grain_of(logits.cols),
                 [&](std::int64_t begin, std::int64_t end) {
                   rows(logits.rows_at(begin, end - begin), statistics.data() + begin);
                 });
}

}  // namespace gimbal::kernels
#endif
