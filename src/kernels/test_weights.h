#pragma once

#include <cstdint>
#include <cstring>

#include "base/random.h"
#include "kernels/packed_matrix.h"
#include "kernels/test_matrix.h"
#include "tensor/buffer.h"

// Inputs for the tests of products.
namespace gimbal::kernels {

// Uniform in [-1, 1).
[[nodiscard]] inline TestMatrix random_matrix(tensor::DType dtype, std::int64_t rows,
                                              std::int64_t cols, std::uint64_t seed,
                                              std::int64_t gap = 0) {
  Rng rng(seed);
  return TestMatrix::random(rng, dtype, rows, cols, 1.0F, gap);
}

// Random weights [n, k], packed.
class TestWeights {
 public:
  TestWeights(tensor::DType dtype, std::int64_t n, std::int64_t k, std::uint64_t seed)
      : memory_(packed_bytes(dtype, n, k), tensor::PageKind::kSmall), n_(n), k_(k), dtype_(dtype) {
    const TestMatrix source = random_matrix(dtype, n, k, seed);
    pack_rows_reference(source.view(), 0, dtype, memory_.data());
  }
  [[nodiscard]] PackedMatrixView view() const { return {memory_.data(), dtype_, n_, k_}; }

 private:
  tensor::Buffer memory_;
  std::int64_t n_;
  std::int64_t k_;
  tensor::DType dtype_;
};

}  // namespace gimbal::kernels
