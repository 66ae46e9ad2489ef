#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/reference_access.h"

namespace gimbal::kernels {

void matmul_reference(tensor::ConstMatrixView a, const PackedMatrixView& w, tensor::MatrixView out,
                      const MatmulOptions& options) {
  GIMBAL_CHECK(a.cols == w.k && out.cols == w.n);
  for (std::int64_t row = 0; row < out.rows; ++row) {
    const std::int64_t from = options.input_rows.empty() ? row : options.input_rows[row];
    for (std::int64_t column = 0; column < w.n; ++column) {
      double sum = options.bias == nullptr ? 0.0 : options.bias[column];
      for (std::int64_t k = 0; k < w.k; ++k)
        sum += static_cast<double>(element(a, from, k)) * packed_weight(w, column, k);
      if (options.accumulate) sum += element(out, row, column);
      set_element(out, row, column, static_cast<float>(sum));
    }
  }
}

}  // namespace gimbal::kernels
