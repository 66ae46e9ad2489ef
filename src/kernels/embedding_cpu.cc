#include <cstring>

#include "base/check.h"
#include "kernels/embedding.h"
#include "kernels/row_chunks.h"

namespace gimbal::kernels {
namespace {

// Widening is a shift: what the baseline compiler makes of this loop keeps up with memory.
void widen(const tensor::BFloat16* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i)
    to[i] = tensor::to_float(from[i]);
}

}  // namespace

void embedding(const KernelContext& context, tensor::ConstMatrixView table,
               std::span<const std::int32_t> tokens, tensor::MatrixView hidden) {
  const auto rows = static_cast<std::int64_t>(tokens.size());
  GIMBAL_CHECK(hidden.dtype == tensor::DType::kF32 && hidden.cols == table.cols);
  GIMBAL_CHECK(hidden.rows >= rows);
  if (context.isa == Isa::kReference) return embedding_reference(table, tokens, hidden);
  for_row_chunks(context, rows, grain_of(table.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int32_t token = tokens[static_cast<std::size_t>(r)];
      GIMBAL_DCHECK(token >= 0 && token < table.rows);
      if (table.dtype == tensor::DType::kBF16) {
        widen(table.row_as<tensor::BFloat16>(token), table.cols, hidden.row_as<float>(r));
      } else {
        std::memcpy(hidden.row(r), table.row(token), static_cast<std::size_t>(table.cols) * 4);
      }
    }
  });
}

}  // namespace gimbal::kernels
