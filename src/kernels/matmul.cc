#include "kernels/matmul.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/panel_task.h"

namespace gimbal::kernels {
namespace {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;

void check_shapes(const ConstMatrixView& a, const PackedMatrixView& w, const MatrixView& out,
                  const MatmulOptions& options) {
  GIMBAL_CHECK(a.dtype == w.dtype);
  GIMBAL_CHECK(w.k >= 1 && w.n >= 1 && a.cols == w.k && out.cols == w.n);
  GIMBAL_CHECK(out.dtype == DType::kF32 || (out.dtype == DType::kBF16 && !options.accumulate));
  if (options.input_rows.empty()) {
    GIMBAL_CHECK(a.rows == out.rows);
  } else {
    GIMBAL_CHECK(static_cast<std::int64_t>(options.input_rows.size()) == out.rows);
  }
}

std::int64_t input_row(const MatmulOptions& options, std::int64_t row) {
  return options.input_rows.empty() ? row : options.input_rows[row];
}

}  // namespace

void matmul(const KernelContext& context, ConstMatrixView a, const PackedMatrixView& w,
            MatrixView out, const MatmulOptions& options) {
  check_shapes(a, w, out, options);
  if (context.isa == Isa::kReference) {
    matmul_reference(a, w, out, options);
    return;
  }
  const PanelKernel& kernel = panel_kernel(context.isa, w.dtype);
  const bool spaced = options.input_rows.empty();
  const RowBlocks blocks(out.rows, kernel, a.cols * static_cast<std::int64_t>(size_of(a.dtype)),
                         spaced && reads_in_place(kernel, w));
  const std::int64_t panels = panels_of(w.n);
  const PanelCut cut =
      cut_panels(w, blocks.size, blocks.count,
                 {.total = panels * blocks.count, .workers = context.pool.workers()});
  // Tasks of all row blocks on the same panels follow each other, while the panels are cached.
  context.run(cut.tasks() * blocks.count, [&](int task, int) {
    TileScratch scratch;
    const std::int64_t first_row = static_cast<std::int64_t>(task % blocks.count) * blocks.size;
    const auto [first_panel, count] = cut.range(task / blocks.count);
    const auto rows = static_cast<int>(std::min<std::int64_t>(blocks.size, out.rows - first_row));
    for (int row = 0; row < rows; ++row) {
      scratch.inputs[row] = a.row(input_row(options, first_row + row));
      scratch.outputs[row] = out.row(first_row + row);
    }
    if (spaced) {
      scratch.spaced_rows = rows;
      scratch.spacing = a.stride * static_cast<std::int64_t>(size_of(a.dtype));
    }
    const auto finish = [&](const FinishedTile& tile) {
      for (int panel = 0; panel < tile.panels; ++panel) {
        const std::int64_t column = (tile.first_panel + panel) * kPanelWidth;
        kernel.store(scratch.panel(panel), tile.rows,
                     options.bias == nullptr ? nullptr : options.bias + column, options.accumulate,
                     panel_output(scratch, tile, column, w.n, out.dtype));
      }
    };
    multiply_tile(kernel, w, rows, first_panel, count, scratch, finish);
  });
}

}  // namespace gimbal::kernels
