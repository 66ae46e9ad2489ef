#include "kernels/panel_task.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::kernels {
namespace {

constexpr int kGroupPanels = 4;  // whose sums fit the first-level cache
// Rows read in place should stay in the second-level cache while panels stream past them.
constexpr std::int64_t kInPlaceBytes = 512 << 10;

int round_up(std::int64_t value, int multiple) {
  return static_cast<int>((value + multiple - 1) / multiple * multiple);
}

// Rows that are copied for the kernel, and how.
class StagedRows {
 public:
  StagedRows(const PanelKernel& kernel, const PackedMatrixView& w, int first, int rows,
             int multiple)
      : kernel_(kernel), w_(w), first_(first), rows_(rows) {
    row_bytes_ = std::int64_t{kernel.stride} * kernel.element_size;
    padding_ = round_up(rows, multiple) - rows;
    block_bytes_ = row_bytes_ * (rows + padding_);
    if (rows > 0) pass_ = static_cast<std::int64_t>(kStagedBytes) / block_bytes_ * kernel.k_block;
  }

  // Staged whole, rows stay so for all panels.
  [[nodiscard]] bool whole() const { return rows_ == 0 || padded_depth(w_.dtype, w_.k) <= pass_; }

  void multiply(PanelProduct product, bool staged, TileScratch& scratch) const {
    const std::int64_t depth = padded_depth(w_.dtype, w_.k);
    const std::byte* const panels = product.panels;
    const std::byte* const ahead = product.ahead;
    product.staged = scratch.staged;
    product.row_bytes = row_bytes_;
    product.block_bytes = block_bytes_;
    for (std::int64_t k = 0; k < depth; k += pass_) {
      const auto weights = static_cast<std::size_t>(k * kPanelWidth) * size_of(w_.dtype);
      product.k_padded = std::min(pass_, depth - k);
      product.first = k == 0;
      product.panels = panels + weights;
      product.ahead = ahead + weights;
      if (!staged || !whole()) {
        kernel_.stage({.rows = scratch.inputs + first_,
                       .count = rows_,
                       .padding = padding_,
                       .k_begin = k,
                       .k_count = std::min(pass_, w_.k - k),
                       .k_padded = product.k_padded},
                      scratch.staged);
      }
      kernel_.multiply(product);
    }
  }

 private:
  const PanelKernel& kernel_;
  const PackedMatrixView& w_;
  int first_;
  int rows_;
  int padding_ = 0;
  std::int64_t row_bytes_ = 0;
  std::int64_t block_bytes_ = 0;
  std::int64_t pass_ = 0;  // inputs that fit
};

}  // namespace

PanelOutput panel_output(const TileScratch& scratch, const FinishedTile& tile, std::int64_t column,
                         std::int64_t columns, tensor::DType dtype) {
  return {.rows = scratch.outputs + tile.first_row,
          .offset = static_cast<std::size_t>(column) * size_of(dtype),
          .lanes = static_cast<int>(std::min<std::int64_t>(kPanelWidth, columns - column)),
          .dtype = dtype};
}

void multiply_tile(const PanelKernel& kernel, const PackedMatrixView& w, int rows,
                   std::int64_t first_panel, int panels, TileScratch& scratch,
                   FunctionRef<void(const FinishedTile&)> finish) {
  const int multiple = kernel.begin == nullptr ? 1 : kernel.begin(rows);
  const int spaced = scratch.spaced_rows / multiple * multiple;
  const int in_place = reads_in_place(kernel, w) ? std::min(rows, spaced) : 0;
  GIMBAL_CHECK(rows <= kMaxTaskRows && rows - in_place <= kMaxTileRows);
  const StagedRows staged(kernel, w, in_place, rows - in_place, multiple);
  // Rows that are not staged whole are staged anew for each chunk of panels.
  const int chunk = staged.whole() ? kGroupPanels : kMaxTilePanels;
  PanelProduct product{.row_bytes = scratch.spacing,
                       .block_bytes = std::int64_t{kernel.k_block} * kernel.element_size,
                       .k_padded = padded_depth(w.dtype, w.k),
                       .panel_bytes = panel_bytes(w.dtype, w.k),
                       .accumulators = scratch.accumulators,
                       .first = true};
  for (int done = 0; done < panels; done += chunk) {
    product.panels = w.panel(first_panel + done);
    product.panel_count = std::min(chunk, panels - done);
    product.ahead = w.panel(first_panel + done + product.panel_count);
    product.ahead_count = std::min(panels - done - product.panel_count, kGroupPanels);
    product.ahead_part = 0;
    product.ahead_parts = (rows + kMaxTileRows - 1) / kMaxTileRows;
    for (int row = 0; row < rows; row += product.rows) {
      product.rows = std::min(kMaxTileRows, (row < in_place ? in_place : rows) - row);
      if (row < in_place) {
        product.staged = scratch.inputs[row];
        kernel.multiply(product);
      } else {
        staged.multiply(product, done > 0, scratch);
      }
      ++product.ahead_part;
      finish({row, product.rows, first_panel + done, product.panel_count});
    }
  }
  if (kernel.end != nullptr) kernel.end();
}

bool reads_in_place(const PanelKernel& kernel, const PackedMatrixView& w) {
  return kernel.reads_in_place && w.k == padded_depth(w.dtype, w.k);
}

RowBlocks::RowBlocks(std::int64_t rows, const PanelKernel& kernel, std::int64_t row_bytes,
                     bool in_place) {
  if (rows == 0) return;
  std::int64_t most = kMaxTileRows;
  if (in_place) {
    const std::int64_t cached = kInPlaceBytes / row_bytes / kMaxTileRows * kMaxTileRows;
    most = std::clamp<std::int64_t>(cached, most, kMaxTaskRows);
  }
  count = static_cast<int>((rows + most - 1) / most);
  size = round_up((rows + count - 1) / count, kernel.row_multiple);
}

PanelCut cut_panels(const PackedMatrixView& w, int block_rows, int blocks,
                    const RegionShare& share) {
  constexpr std::int64_t kLeastCost = 128 << 10;
  constexpr std::int64_t kTasksPerWorker = 6;
  constexpr std::int64_t kMostPanels = 64;
  constexpr std::int64_t kLargePanels = 32;
  constexpr std::int64_t kLastPanels = 16;  // of a worker, in small tasks
  constexpr int kFewRows = 16;
  const auto groups = [](std::int64_t panels) {
    return round_up(std::max<std::int64_t>(panels, 1), kGroupPanels);
  };
  PanelCut cut{.panels = panels_of(w.n)};
  // Cost of a panel in bytes streamed from memory: each row adds arithmetic.
  const auto cost = static_cast<std::int64_t>(panel_bytes(w.dtype, w.k)) * (8 + block_rows) / 8;
  const std::int64_t least = (kLeastCost + cost - 1) / cost;
  if (block_rows > kFewRows) {
    const std::int64_t even = share.total / (kTasksPerWorker * share.workers);
    const std::int64_t wanted = std::max(least, even) / kGroupPanels * kGroupPanels;
    cut.small_size = static_cast<int>(std::clamp<std::int64_t>(wanted, kGroupPanels, kMostPanels));
    return cut;
  }
  // Few rows wait for memory, and each start of a stream costs its latency.
  cut.small_size = groups(std::min(least, kLastPanels));
  if (blocks > 1) return cut;
  const std::int64_t last =
      std::clamp<std::int64_t>(kLastPanels * share.workers - share.behind, 0, cut.panels);
  cut.large_panels = (cut.panels - last) / kGroupPanels * kGroupPanels;
  const std::int64_t tasks = (cut.large_panels + kLargePanels - 1) / kLargePanels;
  if (tasks > 0) cut.large_size = groups((cut.large_panels + tasks - 1) / tasks);
  return cut;
}

}  // namespace gimbal::kernels
