#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernel_context.h"
#include "kernels/packed_matrix.h"
#include "kernels/panel_cut.h"
#include "tensor/buffer.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// A gated feed-forward network: y = down(silu(gate(x)) * up(x)).
struct ExpertWeights {
  // Panel 2p holds gate rows [16p, 16p + 16), panel 2p + 1 the same rows of up: n is twice the
  // intermediate size rounded up to 16, k the hidden size. See PanelPlacement.
  PackedMatrixView gate_up;
  // n: the hidden size; k: the intermediate size.
  PackedMatrixView down;
};

// n of gate_up for an intermediate size.
[[nodiscard]] constexpr std::int64_t gate_up_rows(std::int64_t intermediate) {
  return 2 * kPanelWidth * panels_of(intermediate);
}

// The rows that one expert works on: output_rows[i] = expert(input_rows[i]). Both spans have the
// same length. Dense layers and shared experts are one run with identity rows.
struct ExpertRun {
  const ExpertWeights* weights = nullptr;
  std::span<const std::int32_t> input_rows;
  std::span<const std::int32_t> output_rows;
};

// Memory that expert_ffn works in: inputs by run, activations between the two products, and the
// list of tasks. Made once for the largest call. Thread-compatible: one call at a time.
class ExpertFfnWorkspace {
 public:
  struct Limits {
    tensor::DType dtype = tensor::DType::kF32;  // of activations
    std::int64_t rows = 0;                      // sum over the runs of a call
    std::int64_t hidden = 0;                    // of inputs
    std::int64_t intermediate = 0;              // largest intermediate size
    std::int64_t runs = 0;                      // in a call
  };
  explicit ExpertFfnWorkspace(const Limits& limits);

  [[nodiscard]] const Limits& limits() const { return limits_; }
  [[nodiscard]] std::size_t bytes() const { return gathered_.size() + activations_.size(); }

 private:
  friend class ExpertFfnCall;
  // How one run's work is cut in both products.
  struct RunPlan {
    std::int64_t first_row = 0;  // in gathered_ and activations_, whose runs are padded
    int row_blocks = 0;
    int block_size = 0;  // rows
    PanelCut gate_up;
    PanelCut down;
    int gate_up_first = 0;  // the run's first task
    int down_first = 0;
  };

  Limits limits_;
  tensor::Buffer gathered_;  // inputs of runs of many rows, in the runs' order
  tensor::Buffer activations_;
  std::vector<RunPlan> plans_;
};

// For every run and i: output[output_rows[i]] = expert(input[input_rows[i]]), unweighted. input
// [*, hidden] has the workspace's type, like the weights; output [*, hidden] is kBF16 or kF32, and
// no row of it is named twice. Activations between the products are rounded to the workspace's type
// once. Each touched weight is read from memory once per 64 rows of its run, per 256 where the
// kernel reads rows in place. A row's result does not depend on the other rows, bit for bit.
// Requires: the call is within the workspace's limits.
void expert_ffn(const KernelContext& context, tensor::ConstMatrixView input,
                std::span<const ExpertRun> runs, tensor::MatrixView output,
                ExpertFfnWorkspace& workspace);

// The same by plain loops on one thread, accumulated in double.
void expert_ffn_reference(tensor::ConstMatrixView input, std::span<const ExpertRun> runs,
                          tensor::MatrixView output);

}  // namespace gimbal::kernels
