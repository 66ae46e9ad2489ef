#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// Weights W [n, k] (n output features, k inputs) are kept in panels of 16 output features, in the
// order in which matmul reads them, so that a panel is one sequential stream:
//   bfloat16: [k / 2][16][2], the two inputs of a pair beside each other (the operand order of the
//             bfloat16 dot product and of matrix tiles)
//   float32:  [k][16]
// The depth k is padded with zeros to a multiple of 32 (bfloat16) or 16 (float32), and n to a
// multiple of 16. Packed memory must be aligned to 64 bytes.
inline constexpr std::int64_t kPanelWidth = 16;

// k as stored. Requires: dtype is kBF16 or kF32, as everywhere below.
[[nodiscard]] constexpr std::int64_t padded_depth(tensor::DType dtype, std::int64_t k) {
  const std::int64_t unit = dtype == tensor::DType::kF32 ? 16 : 32;
  return (k + unit - 1) / unit * unit;
}
[[nodiscard]] constexpr std::int64_t panels_of(std::int64_t n) {
  return (n + kPanelWidth - 1) / kPanelWidth;
}
[[nodiscard]] constexpr std::size_t panel_bytes(tensor::DType dtype, std::int64_t k) {
  return static_cast<std::size_t>(padded_depth(dtype, k) * kPanelWidth) * tensor::size_of(dtype);
}
[[nodiscard]] constexpr std::size_t packed_bytes(tensor::DType dtype, std::int64_t n,
                                                 std::int64_t k) {
  return static_cast<std::size_t>(panels_of(n)) * panel_bytes(dtype, k);
}

// A packed W [n, k] in somebody else's memory: packed_bytes(dtype, n, k) bytes. Value type.
struct PackedMatrixView {
  const std::byte* data = nullptr;
  tensor::DType dtype = tensor::DType::kF32;
  std::int64_t n = 0;
  std::int64_t k = 0;

  [[nodiscard]] const std::byte* panel(std::int64_t index) const {
    return data + static_cast<std::size_t>(index) * panel_bytes(dtype, k);
  }
};

// Where the panels of one source matrix go: its i-th panel is panel `first + i * step` of the
// packed matrix. Two sources of a gated feed-forward layer share one matrix: gate {0, 2}, up {1,
// 2}.
struct PanelPlacement {
  std::int64_t first = 0;
  std::int64_t step = 1;
};

// Packs `source` [count, k], rows `first_row`... of W, into `packed` (the start of the whole packed
// matrix) as `dtype`. The source may be kF32, kBF16 or kF16 and need not be aligned; conversion to
// bfloat16 rounds to nearest even. Requires: first_row is a multiple of 16, and so is the count
// unless these are the last rows of W, whose panel is then filled up with zeros. Thread-safe on
// disjoint rows.
void pack_rows(tensor::ConstMatrixView source, std::int64_t first_row, tensor::DType dtype,
               std::byte* packed, PanelPlacement placement = {});

// The same by plain loops.
void pack_rows_reference(tensor::ConstMatrixView source, std::int64_t first_row,
                         tensor::DType dtype, std::byte* packed, PanelPlacement placement = {});

// W[row, column]. For tests and references.
[[nodiscard]] float packed_weight(const PackedMatrixView& weights, std::int64_t row,
                                  std::int64_t column);

}  // namespace gimbal::kernels
