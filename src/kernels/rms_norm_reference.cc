#include <cmath>

#include "kernels/reference_access.h"
#include "kernels/rms_norm.h"

namespace gimbal::kernels {

void rms_norm_reference(tensor::ConstMatrixView in, std::span<const float> weight, float epsilon,
                        tensor::MatrixView out) {
  for (std::int64_t r = 0; r < in.rows; ++r) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < in.cols; ++i) {
      const double x = element(in, r, i);
      sum += x * x;
    }
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(in.cols) + epsilon);
    for (std::int64_t i = 0; i < in.cols; ++i) {
      const double x = element(in, r, i);
      set_element(out, r, i, static_cast<float>(x * scale * weight[static_cast<std::size_t>(i)]));
    }
  }
}

}  // namespace gimbal::kernels
