#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernel_context.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// What greedy sampling and log-probabilities need of a row of logits.
struct RowStatistics {
  std::int32_t argmax = 0;  // the lowest index of the maximum
  float maximum = 0.0F;
  float log_sum_exp = 0.0F;  // log(sum(exp(row))): logits - log_sum_exp are log-probabilities
};

// Shapes: logits [rows, n] (f32), n > 0; statistics [rows]. A row's values depend on that row
// alone. Logits may be -infinity (masked), but not all of a row.
void row_statistics(const KernelContext& context, tensor::ConstMatrixView logits,
                    std::span<RowStatistics> statistics);
void row_statistics_reference(tensor::ConstMatrixView logits, std::span<RowStatistics> statistics);

}  // namespace gimbal::kernels
