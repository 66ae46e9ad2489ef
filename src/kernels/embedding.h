#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernel_context.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// hidden[r] = table[tokens[r]], widened to float.
// Shapes: table [vocabulary, hidden] (bf16 or f32), hidden [tokens.size(), hidden] (f32).
// Requires: every token id is a row of the table.
void embedding(const KernelContext& context, tensor::ConstMatrixView table,
               std::span<const std::int32_t> tokens, tensor::MatrixView hidden);
void embedding_reference(tensor::ConstMatrixView table, std::span<const std::int32_t> tokens,
                         tensor::MatrixView hidden);

}  // namespace gimbal::kernels
