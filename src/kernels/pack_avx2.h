#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// Inside packed_matrix. The source behind it is compiled with flags of its own.
namespace gimbal::kernels {

// Up to 16 source rows that become one panel.
struct PanelSource {
  const std::byte* data = nullptr;
  tensor::DType dtype = tensor::DType::kF32;
  int lanes = 0;
  std::size_t row_bytes = 0;
  std::int64_t k = 0;
};

// Writes one whole panel of `dtype`, zeros where the source has no row or no input.
void pack_panel_avx2(const PanelSource& source, tensor::DType dtype, std::byte* panel);

}  // namespace gimbal::kernels
