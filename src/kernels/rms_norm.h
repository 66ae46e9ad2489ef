#pragma once

#include <span>

#include "kernels/kernel_context.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// out[r][i] = in[r][i] / sqrt(mean(in[r]^2) + epsilon) * weight[i], computed in float and rounded
// once. Shapes: in, out [rows, n], each bf16 or f32; weight [n]. `out` may be `in`.
// Batch-invariant: a row's sum depends on that row and n alone.
void rms_norm(const KernelContext& context, tensor::ConstMatrixView in,
              std::span<const float> weight, float epsilon, tensor::MatrixView out);
void rms_norm_reference(tensor::ConstMatrixView in, std::span<const float> weight, float epsilon,
                        tensor::MatrixView out);

}  // namespace gimbal::kernels
