#pragma once

#include <cstddef>
#include <cstdint>

#include "base/function_ref.h"
#include "kernels/packed_matrix.h"
#include "kernels/panel_kernel.h"

// Inside matmul and expert_ffn: how a product is cut into tasks, and one task of it.
namespace gimbal::kernels {

inline constexpr int kMaxTaskRows = 256;

// What one task works in; lives on the stack of the worker that runs it.
struct TileScratch {
  alignas(64) std::byte staged[kStagedBytes];
  alignas(64) float accumulators[kMaxTilePanels * kMaxTileRows * kPanelLanes];
  const std::byte* inputs[kMaxTaskRows];
  std::byte* outputs[kMaxTaskRows];
  // The first rows, if they are evenly spaced from inputs[0] on and may be read, and the bytes from
  // one to the next. May count rows beyond those of the task.
  int spaced_rows = 0;
  std::int64_t spacing = 0;

  [[nodiscard]] const float* panel(int index) const {
    return accumulators + static_cast<std::ptrdiff_t>(index) * kMaxTileRows * kPanelLanes;
  }
};

// A part of a task whose sums are done: scratch.panel(i) holds those of panel first_panel + i with
// the task's rows [first_row, first_row + rows).
struct FinishedTile {
  int first_row = 0;
  int rows = 0;
  std::int64_t first_panel = 0;
  int panels = 0;  // even, but for the last of a matrix
};

// The first `rows` scratch.inputs (of w.k elements) times panels [first_panel, first_panel +
// panels) of w, part by part. Requires: rows <= RowBlocks::most for the same spaced rows.
void multiply_tile(const PanelKernel& kernel, const PackedMatrixView& w, int rows,
                   std::int64_t first_panel, int panels, TileScratch& scratch,
                   FunctionRef<void(const FinishedTile&)> finish);

// How `rows` are cut into blocks, as evenly as the kernel's row multiple allows.
struct RowBlocks {
  int count = 0;
  int size = 0;  // of every block but the last

  // `spaced`: TileScratch::spaced_rows will cover them, but for a remainder of the row multiple.
  RowBlocks(std::int64_t rows, const PanelKernel& kernel, const PackedMatrixView& w, bool spaced);
};

// How many panels one task of a product takes: enough for a task to outweigh its own start, few
// enough to keep all workers busy to the end. `blocks` tasks share each group of panels, and
// `total_panels` counts the panels of all products in the same parallel region, once per row block.
[[nodiscard]] int panels_per_task(const PackedMatrixView& w, std::int64_t rows_per_block,
                                  std::int64_t total_panels, int workers);

}  // namespace gimbal::kernels
