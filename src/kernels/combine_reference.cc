#include <cmath>

#include "kernels/combine.h"
#include "kernels/reference_access.h"

namespace gimbal::kernels {

void combine_reference(std::span<const float> weights, tensor::ConstMatrixView outputs,
                       tensor::MatrixView hidden) {
  const std::int64_t k = hidden.rows > 0 ? outputs.rows / hidden.rows : 0;
  for (std::int64_t r = 0; r < hidden.rows; ++r) {
    for (std::int64_t i = 0; i < hidden.cols; ++i) {
      double sum = element(hidden, r, i);
      for (std::int64_t slot = r * k; slot < (r + 1) * k; ++slot) {
        const double weight = weights[static_cast<std::size_t>(slot)];
        sum += weight * element(outputs, slot, i);
      }
      set_element(hidden, r, i, static_cast<float>(sum));
    }
  }
}

void combine_shared_reference(std::span<const float> gate_logits, tensor::ConstMatrixView shared,
                              tensor::MatrixView hidden) {
  for (std::int64_t r = 0; r < hidden.rows; ++r) {
    const double gate = 1.0 / (1.0 + std::exp(-gate_logits[static_cast<std::size_t>(r)]));
    for (std::int64_t i = 0; i < hidden.cols; ++i) {
      const double sum = element(hidden, r, i) + gate * element(shared, r, i);
      set_element(hidden, r, i, static_cast<float>(sum));
    }
  }
}

void add_rows_reference(tensor::ConstMatrixView rows, tensor::MatrixView hidden) {
  for (std::int64_t r = 0; r < hidden.rows; ++r) {
    for (std::int64_t i = 0; i < hidden.cols; ++i) {
      set_element(hidden, r, i, element(hidden, r, i) + element(rows, r, i));
    }
  }
}

}  // namespace gimbal::kernels
