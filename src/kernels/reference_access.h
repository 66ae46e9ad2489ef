#pragma once

#include <cstdint>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/matrix_view.h"

// Access to single elements, for reference implementations and tests.
namespace gimbal::kernels {

// Requires: the type is kF32 or kBF16.
[[nodiscard]] inline float element(const tensor::ConstMatrixView& matrix, std::int64_t row,
                                   std::int64_t column) {
  GIMBAL_DCHECK(matrix.dtype != tensor::DType::kF16);
  return matrix.dtype == tensor::DType::kBF16
             ? tensor::to_float(matrix.row_as<tensor::BFloat16>(row)[column])
             : matrix.row_as<float>(row)[column];
}

// Rounds to the matrix's type, kF32 or kBF16.
inline void set_element(const tensor::MatrixView& matrix, std::int64_t row, std::int64_t column,
                        float value) {
  GIMBAL_DCHECK(matrix.dtype != tensor::DType::kF16);
  if (matrix.dtype == tensor::DType::kBF16) {
    matrix.row_as<tensor::BFloat16>(row)[column] = tensor::to_bfloat16(value);
  } else {
    matrix.row_as<float>(row)[column] = value;
  }
}

}  // namespace gimbal::kernels
