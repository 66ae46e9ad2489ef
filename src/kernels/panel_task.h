#pragma once

#include <cstddef>
#include <cstdint>

#include "base/function_ref.h"
#include "kernels/packed_matrix.h"
#include "kernels/panel_cut.h"
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

// Where a panel of a finished tile goes: to the tile's rows, the 16 columns from `column` on, or as
// many as there are of `columns`.
[[nodiscard]] PanelOutput panel_output(const TileScratch& scratch, const FinishedTile& tile,
                                       std::int64_t column, std::int64_t columns,
                                       tensor::DType dtype);

// The first `rows` scratch.inputs (of w.k elements) times panels [first_panel, first_panel +
// panels) of w, part by part. Requires: rows <= kMaxTaskRows, and those not read in place <=
// kMaxTileRows.
void multiply_tile(const PanelKernel& kernel, const PackedMatrixView& w, int rows,
                   std::int64_t first_panel, int panels, TileScratch& scratch,
                   FunctionRef<void(const FinishedTile&)> finish);

// Whether rows that lie evenly spaced need no staging for a product with w.
[[nodiscard]] bool reads_in_place(const PanelKernel& kernel, const PackedMatrixView& w);

// How `rows` are cut into blocks, as evenly as the kernel's row multiple allows.
struct RowBlocks {
  int count = 0;
  int size = 0;  // of every block but the last

  // `row_bytes`: of a row of inputs. `in_place`: TileScratch::spaced_rows will cover the rows, but
  // for a remainder of the row multiple, and reads_in_place holds for the product.
  RowBlocks(std::int64_t rows, const PanelKernel& kernel, std::int64_t row_bytes, bool in_place);
};

// Where a product's panels stand among those of a parallel region, each counted once per row block.
struct RegionShare {
  std::int64_t total = 0;   // of all products
  std::int64_t behind = 0;  // of products that start later
  int workers = 1;
};

// Cuts a product's panels into tasks: enough for a task to outweigh its own start, few enough to
// keep all workers busy to the end. `blocks` blocks of `block_rows` rows each take every range.
[[nodiscard]] PanelCut cut_panels(const PackedMatrixView& w, int block_rows, int blocks,
                                  const RegionShare& share);

}  // namespace gimbal::kernels
