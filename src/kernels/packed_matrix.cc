#include "kernels/packed_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/isa.h"
#include "kernels/pack_avx2.h"
#include "kernels/reference_access.h"

namespace gimbal::kernels {
namespace {

using tensor::BFloat16;
using tensor::ConstMatrixView;
using tensor::DType;

// Byte offset of W[lane, k] in its panel.
std::size_t offset_in_panel(DType dtype, std::int64_t lane, std::int64_t k) {
  if (dtype == DType::kF32) return static_cast<std::size_t>(k * kPanelWidth + lane) * 4;
  return static_cast<std::size_t>((k / 2 * kPanelWidth + lane) * 2 + k % 2) * 2;
}

// Unlike element(): the source may also be half precision.
float source_element(const ConstMatrixView& source, std::int64_t row, std::int64_t k) {
  if (source.dtype == DType::kF16) {
    return tensor::half_to_float(source.row_as<std::uint16_t>(row)[k]);
  }
  return element(source, row, k);
}

void check_arguments(const ConstMatrixView& source, std::int64_t first_row, DType dtype) {
  GIMBAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  GIMBAL_CHECK(first_row % kPanelWidth == 0 && source.cols >= 1);
}

std::byte* panel_at(std::byte* packed, DType dtype, std::int64_t k, std::int64_t panel,
                    const PanelPlacement& placement) {
  return packed +
         static_cast<std::size_t>(placement.first + panel * placement.step) * panel_bytes(dtype, k);
}

}  // namespace

void pack_rows(ConstMatrixView source, std::int64_t first_row, DType dtype, std::byte* packed,
               PanelPlacement placement) {
  if (!isa_supported(Isa::kAvx2)) {
    pack_rows_reference(source, first_row, dtype, packed, placement);
    return;
  }
  check_arguments(source, first_row, dtype);
  const auto row_bytes = static_cast<std::size_t>(source.stride) * size_of(source.dtype);
  for (std::int64_t row = 0; row < source.rows; row += kPanelWidth) {
    const auto lanes = static_cast<int>(std::min(kPanelWidth, source.rows - row));
    pack_panel_avx2(
        {.data = source.row(row),
         .dtype = source.dtype,
         .lanes = lanes,
         .row_bytes = row_bytes,
         .k = source.cols},
        dtype, panel_at(packed, dtype, source.cols, (first_row + row) / kPanelWidth, placement));
  }
}

void pack_rows_reference(ConstMatrixView source, std::int64_t first_row, DType dtype,
                         std::byte* packed, PanelPlacement placement) {
  check_arguments(source, first_row, dtype);
  for (std::int64_t row = 0; row < source.rows; row += kPanelWidth) {
    std::byte* panel =
        panel_at(packed, dtype, source.cols, (first_row + row) / kPanelWidth, placement);
    for (std::int64_t lane = 0; lane < kPanelWidth; ++lane) {
      for (std::int64_t k = 0; k < padded_depth(dtype, source.cols); ++k) {
        const bool inside = row + lane < source.rows && k < source.cols;
        const float value = inside ? source_element(source, row + lane, k) : 0.0F;
        std::byte* target = panel + offset_in_panel(dtype, lane, k);
        if (dtype == DType::kF32) {
          std::memcpy(target, &value, sizeof(value));
        } else {
          const BFloat16 rounded = tensor::to_bfloat16(value);
          std::memcpy(target, &rounded, sizeof(rounded));
        }
      }
    }
  }
}

float packed_weight(const PackedMatrixView& weights, std::int64_t row, std::int64_t column) {
  const std::byte* at =
      weights.panel(row / kPanelWidth) + offset_in_panel(weights.dtype, row % kPanelWidth, column);
  if (weights.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  BFloat16 value;
  std::memcpy(&value, at, sizeof(value));
  return tensor::to_float(value);
}

}  // namespace gimbal::kernels
