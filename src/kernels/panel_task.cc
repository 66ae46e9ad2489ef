#include "kernels/panel_task.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::kernels {

void multiply_tile(const PanelKernel& kernel, const PackedMatrixView& w, int rows,
                   std::int64_t first_panel, int panels, TileScratch& scratch) {
  GIMBAL_DCHECK(rows <= kMaxTileRows && panels <= kMaxTilePanels);
  const std::int64_t depth = padded_depth(w.dtype, w.k);
  const std::size_t bytes_per_panel = panel_bytes(w.dtype, w.k);
  const std::int64_t padded_rows =
      (rows + kernel.row_multiple - 1) / kernel.row_multiple * kernel.row_multiple;
  const auto block_bytes =
      static_cast<std::size_t>(padded_rows * kernel.stride * kernel.element_size);
  const auto pass = static_cast<std::int64_t>(kStagedBytes / block_bytes) * kernel.k_block;
  for (std::int64_t k = 0; k < depth; k += pass) {
    const std::int64_t padded = std::min(pass, depth - k);
    kernel.stage(scratch.inputs, rows, k, std::min(pass, w.k - k), padded, scratch.staged);
    const std::byte* weights =
        w.panel(first_panel) + static_cast<std::size_t>(k * kPanelWidth) * size_of(w.dtype);
    kernel.multiply(scratch.staged, rows, padded, weights, bytes_per_panel, panels,
                    scratch.accumulators, k == 0);
  }
}

RowBlocks::RowBlocks(std::int64_t rows, int row_multiple) {
  if (rows == 0) return;
  count = static_cast<int>((rows + kMaxTileRows - 1) / kMaxTileRows);
  const std::int64_t even = (rows + count - 1) / count;
  size = static_cast<int>((even + row_multiple - 1) / row_multiple * row_multiple);
}

int panels_per_task(const PackedMatrixView& w, std::int64_t rows_per_block,
                    std::int64_t total_panels, int workers) {
  // Cost of a panel in bytes streamed from memory: each row adds arithmetic.
  const auto cost = static_cast<std::int64_t>(panel_bytes(w.dtype, w.k)) * (8 + rows_per_block) / 8;
  constexpr std::int64_t kLeastCost = 256 << 10;
  constexpr std::int64_t kTasksPerWorker = 6;
  const std::int64_t least = (kLeastCost + cost - 1) / cost;
  const std::int64_t even = total_panels / (kTasksPerWorker * workers);
  // Multiples of four: kernels for few rows take four panels at once.
  const std::int64_t wanted = std::max(least, even) / 4 * 4;
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 4, kMaxTilePanels));
}

}  // namespace gimbal::kernels
