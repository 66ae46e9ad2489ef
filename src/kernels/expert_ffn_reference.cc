#include <cmath>
#include <vector>

#include "kernels/expert_ffn.h"
#include "kernels/reference_access.h"

namespace gimbal::kernels {
namespace {

double dot(const tensor::ConstMatrixView& a, std::int64_t row, const PackedMatrixView& w,
           std::int64_t column) {
  double sum = 0;
  for (std::int64_t k = 0; k < w.k; ++k)
    sum += static_cast<double>(element(a, row, k)) * packed_weight(w, column, k);
  return sum;
}

}  // namespace

void expert_ffn_reference(tensor::ConstMatrixView input, std::span<const ExpertRun> runs,
                          tensor::MatrixView output) {
  for (const ExpertRun& run : runs) {
    const ExpertWeights& weights = *run.weights;
    const std::int64_t intermediate = weights.down.k;
    std::vector<float> memory(static_cast<std::size_t>(intermediate));
    const tensor::MatrixView activations{reinterpret_cast<std::byte*>(memory.data()), input.dtype,
                                         1, intermediate, intermediate};
    for (std::size_t i = 0; i < run.input_rows.size(); ++i) {
      for (std::int64_t j = 0; j < intermediate; ++j) {
        // Feature j of gate and up: the same lane of two neighbouring panels.
        const std::int64_t lane = j / kPanelWidth * 2 * kPanelWidth + j % kPanelWidth;
        const double gate = dot(input, run.input_rows[i], weights.gate_up, lane);
        const double up = dot(input, run.input_rows[i], weights.gate_up, lane + kPanelWidth);
        set_element(activations, 0, j, static_cast<float>(gate / (1 + std::exp(-gate)) * up));
      }
      for (std::int64_t j = 0; j < weights.down.n; ++j) {
        set_element(output, run.output_rows[i], j,
                    static_cast<float>(dot(activations, 0, weights.down, j)));
      }
    }
  }
}

}  // namespace gimbal::kernels
