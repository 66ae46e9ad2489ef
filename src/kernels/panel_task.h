#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/packed_matrix.h"
#include "kernels/panel_kernel.h"

// Inside matmul and expert_ffn: how a product is cut into tasks, and one task of it.
namespace gimbal::kernels {

// What one task works in; lives on the stack of the worker that runs it.
struct TileScratch {
  alignas(64) std::byte staged[kStagedBytes];
  alignas(64) float accumulators[kMaxTilePanels * kMaxTileRows * kPanelLanes];
  const std::byte* inputs[kMaxTileRows];
  std::byte* outputs[kMaxTileRows];

  [[nodiscard]] const float* panel(int index) const {
    return accumulators + static_cast<std::ptrdiff_t>(index) * kMaxTileRows * kPanelLanes;
  }
};

// scratch.accumulators = the first `rows` scratch.inputs (of w.k elements) times panels
// [first_panel, first_panel + panels) of w. Requires: rows <= kMaxTileRows, panels <=
// kMaxTilePanels.
void multiply_tile(const PanelKernel& kernel, const PackedMatrixView& w, int rows,
                   std::int64_t first_panel, int panels, TileScratch& scratch);

// How `rows` are cut into blocks of at most kMaxTileRows, as evenly as the kernel's row multiple
// allows.
struct RowBlocks {
  int count = 0;
  int size = 0;  // of every block but the last

  RowBlocks(std::int64_t rows, int row_multiple);
};

// How many panels one task of a product takes: enough for a task to outweigh its own start, few
// enough to keep all workers busy to the end. `blocks` tasks share each group of panels, and
// `total_panels` counts the panels of all products in the same parallel region, once per row block.
[[nodiscard]] int panels_per_task(const PackedMatrixView& w, std::int64_t rows_per_block,
                                  std::int64_t total_panels, int workers);

}  // namespace gimbal::kernels
