#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernel_context.h"
#include "kernels/packed_matrix.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

struct MatmulOptions {
  // [n], added to every row; null for none.
  const float* bias = nullptr;
  // Adds to what `out` (kF32) holds instead of replacing it.
  bool accumulate = false;
  // If not empty, row i of `out` is computed from row input_rows[i] of `a`.
  std::span<const std::int32_t> input_rows = {};
};

// out[m, n] = a[m, k] · Wᵀ (+ bias), accumulated in float32 and rounded once. a and W have the same
// type; out is kBF16 or kF32 and must not overlap a. m may be 0. Each element's sum runs over k in
// an order that depends on nothing but the instruction set, so row i of any call equals, bit for
// bit, a call with that row alone. Thread-safe for different outputs.
void matmul(const KernelContext& context, tensor::ConstMatrixView a, const PackedMatrixView& w,
            tensor::MatrixView out, const MatmulOptions& options = {});

// The same by plain loops on one thread, accumulated in double.
void matmul_reference(tensor::ConstMatrixView a, const PackedMatrixView& w, tensor::MatrixView out,
                      const MatmulOptions& options = {});

}  // namespace gimbal::kernels
