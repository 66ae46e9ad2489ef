#pragma once

#include <span>

#include "kernels/kernel_context.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// hidden[r] += sum over j of weights[r * k + j] * outputs[r * k + j], in ascending j (ascending
// expert id, as `route` writes them), in float. Shapes: outputs [rows * k, n] (bf16 or f32),
// weights [rows * k], hidden [rows, n] (f32).
void combine(const KernelContext& context, std::span<const float> weights,
             tensor::ConstMatrixView outputs, tensor::MatrixView hidden);
void combine_reference(std::span<const float> weights, tensor::ConstMatrixView outputs,
                       tensor::MatrixView hidden);

// hidden[r] += sigmoid(gate_logits[r]) * shared[r]: the shared expert of Qwen2-MoE.
// Shapes: shared [rows, n] (bf16 or f32), gate_logits [rows], hidden [rows, n] (f32).
void combine_shared(const KernelContext& context, std::span<const float> gate_logits,
                    tensor::ConstMatrixView shared, tensor::MatrixView hidden);
void combine_shared_reference(std::span<const float> gate_logits, tensor::ConstMatrixView shared,
                              tensor::MatrixView hidden);

// hidden[r] += rows[r]. Shapes: rows [rows, n] (bf16 or f32), hidden [rows, n] (f32).
void add_rows(const KernelContext& context, tensor::ConstMatrixView rows,
              tensor::MatrixView hidden);
void add_rows_reference(tensor::ConstMatrixView rows, tensor::MatrixView hidden);

}  // namespace gimbal::kernels
