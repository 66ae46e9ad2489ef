#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/isa.h"
#include "kernels/reference_access.h"
#include "tensor/matrix_view.h"

// Inputs of kernel tests.
namespace gimbal::kernels {

// A matrix that owns its elements; rows are `gap` elements further apart than they are long.
class TestMatrix {
 public:
  TestMatrix(tensor::DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t gap = 0)
      : bytes_(static_cast<std::size_t>(rows * (cols + gap)) * size_of(dtype)),
        dtype_(dtype),
        rows_(rows),
        cols_(cols),
        stride_(cols + gap) {}

  // Uniform in [-range, range).
  static TestMatrix random(Rng& rng, tensor::DType dtype, std::int64_t rows, std::int64_t cols,
                           float range = 1.0F, std::int64_t gap = 0) {
    TestMatrix matrix(dtype, rows, cols, gap);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < cols; ++i) {
        set_element(matrix.view(), r, i, range * static_cast<float>(2.0 * rng.uniform() - 1.0));
      }
    }
    return matrix;
  }

  [[nodiscard]] tensor::MatrixView view() {
    return {reinterpret_cast<std::byte*>(bytes_.data()), dtype_, rows_, cols_, stride_};
  }
  [[nodiscard]] tensor::ConstMatrixView view() const {
    return {reinterpret_cast<const std::byte*>(bytes_.data()), dtype_, rows_, cols_, stride_};
  }
  [[nodiscard]] float at(std::int64_t row, std::int64_t col) const {
    return element(view(), row, col);
  }
  // Bit for bit, gaps included.
  bool operator==(const TestMatrix& other) const { return bytes_ == other.bytes_; }

 private:
  std::vector<unsigned char> bytes_;
  tensor::DType dtype_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
};

[[nodiscard]] inline std::vector<float> random_floats(Rng& rng, std::size_t count,
                                                      float range = 1.0F) {
  std::vector<float> values(count);
  for (float& x : values)
    x = range * static_cast<float>(2.0 * rng.uniform() - 1.0);
  return values;
}

[[nodiscard]] inline bool same_row_bits(const TestMatrix& a, std::int64_t row_a,
                                        const TestMatrix& b, std::int64_t row_b) {
  const auto first = a.view();
  const auto second = b.view();
  return std::memcmp(first.row(row_a), second.row(row_b),
                     static_cast<std::size_t>(first.cols) * size_of(first.dtype)) == 0;
}

// The levels that this processor runs, the reference apart.
[[nodiscard]] inline std::vector<Isa> supported_levels() {
  std::vector<Isa> levels;
  for (const Isa isa : kAllIsas) {
    if (isa != Isa::kReference && isa_supported(isa)) levels.push_back(isa);
  }
  return levels;
}

// Rounding to the type that results are stored in: the tolerance relative to a value.
[[nodiscard]] inline double relative_tolerance(tensor::DType dtype) {
  return dtype == tensor::DType::kBF16 ? 1.0 / 120 : 1e-5;
}

}  // namespace gimbal::kernels
