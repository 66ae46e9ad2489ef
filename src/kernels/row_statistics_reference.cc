#include <cmath>

#include "kernels/row_statistics.h"

namespace gimbal::kernels {

void row_statistics_reference(tensor::ConstMatrixView logits, std::span<RowStatistics> statistics) {
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    const float* row = logits.row_as<float>(r);
    RowStatistics& result = statistics[static_cast<std::size_t>(r)];
    result = {0, row[0], 0.0F};
    for (std::int64_t i = 1; i < logits.cols; ++i) {
      if (row[i] > result.maximum) result = {static_cast<std::int32_t>(i), row[i], 0.0F};
    }
    double sum = 0.0;
    for (std::int64_t i = 0; i < logits.cols; ++i) {
      sum += std::exp(static_cast<double>(row[i]) - result.maximum);
    }
    result.log_sum_exp = static_cast<float>(result.maximum + std::log(sum));
  }
}

}  // namespace gimbal::kernels
