#include "kernels/embedding.h"
#include "tensor/dtype.h"

namespace gimbal::kernels {

void embedding_reference(tensor::ConstMatrixView table, std::span<const std::int32_t> tokens,
                         tensor::MatrixView hidden) {
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    float* out = hidden.row_as<float>(static_cast<std::int64_t>(r));
    for (std::int64_t i = 0; i < table.cols; ++i) {
      out[i] = table.dtype == tensor::DType::kBF16
                   ? tensor::to_float(table.row_as<tensor::BFloat16>(tokens[r])[i])
                   : table.row_as<float>(tokens[r])[i];
    }
  }
}

}  // namespace gimbal::kernels
