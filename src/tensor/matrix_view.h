#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "tensor/dtype.h"

namespace gimbal::tensor {

// A row-major matrix in somebody else's memory: [rows, cols], rows `stride` elements apart.
// The element type is known at run time; kernels switch on it once per call. Value type.
template <class Byte>
struct BasicMatrixView {
  Byte* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  // in elements; >= cols

  [[nodiscard]] Byte* row(std::int64_t index) const {
    return data + index * stride * static_cast<std::int64_t>(size_of(dtype));
  }
  // Requires: T is the type that dtype names.
  template <class T>
  [[nodiscard]] auto row_as(std::int64_t index) const {
    GIMBAL_DCHECK(sizeof(T) == size_of(dtype));
    if constexpr (std::is_const_v<Byte>) {
      return reinterpret_cast<const T*>(row(index));
    } else {
      return reinterpret_cast<T*>(row(index));
    }
  }
  // Rows [begin, begin + count).
  [[nodiscard]] BasicMatrixView rows_at(std::int64_t begin, std::int64_t count) const {
    return {row(begin), dtype, count, cols, stride};
  }
  // Columns [begin, begin + count) of every row.
  [[nodiscard]] BasicMatrixView cols_at(std::int64_t begin, std::int64_t count) const {
    return {data + begin * static_cast<std::int64_t>(size_of(dtype)), dtype, rows, count, stride};
  }
  operator BasicMatrixView<const std::byte>() const { return {data, dtype, rows, cols, stride}; }
};

using MatrixView = BasicMatrixView<std::byte>;
using ConstMatrixView = BasicMatrixView<const std::byte>;

}  // namespace gimbal::tensor
