#include <immintrin.h>

#include "kernels/amx_tiles.h"
#include "kernels/panel_kernel.h"

namespace gimbal::kernels {
namespace {

constexpr int kTile = 16;                       // rows of every tile
constexpr int kTileInputs = 32;                 // bfloat16 in a tile's row
constexpr int kLineBytes = 64;                  // a tile's row
constexpr int kTileBytes = kTile * kLineBytes;  // also the weights of one panel and 32 inputs
constexpr int kPanelSums = kMaxTileRows * kPanelLanes;

// Arguments of one register tile over `depth` inputs, a multiple of 32.
struct TileCall {
  const std::byte* inputs;
  std::int64_t row_bytes;
  const std::byte* panels;
  std::size_t panel_bytes;
  const std::byte* panel_end;  // of the first panel, whole
  const std::byte* ahead;      // weights of later panels, to be fetched meanwhile
  int depth;
  float* accumulators;
  bool first;
};

// How far ahead a single row tile reads its weights: little arithmetic hides the memory's latency.
constexpr int kNearBytes = 2048;

template <auto kHint, int kLines = kTile>
__attribute__((always_inline)) inline void fetch_lines(const std::byte* from) {
#pragma GCC unroll 16
  for (int line = 0; line < kLines; ++line)
    _mm_prefetch(from + line * kLineBytes, kHint);
}

// 32 rows times 2 panels: sums in tiles 0-3, rows in 4 and 5, weights in 6 and 7. Fetches
// kLines lines of later panels into the second-level cache with each tile of weights.
template <int kLines>
void tile_2x2(const TileCall& call) {
  float* sums = call.accumulators;
  if (call.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kLineBytes);
    _tile_loadd(1, sums + kPanelSums, kLineBytes);
    _tile_loadd(2, sums + kTile * kPanelLanes, kLineBytes);
    _tile_loadd(3, sums + kPanelSums + kTile * kPanelLanes, kLineBytes);
  }
  const std::byte* inputs = call.inputs;
  const std::byte* panels = call.panels;
  const std::byte* ahead = call.ahead;
  for (int k = 0; k < call.depth; k += kTileInputs) {
    _tile_loadd(6, panels, kLineBytes);
    _tile_loadd(4, inputs, call.row_bytes);
    _tile_loadd(7, panels + call.panel_bytes, kLineBytes);
    _tile_dpbf16ps(0, 4, 6);
    fetch_lines<_MM_HINT_T1, kLines / 2>(ahead);
    _tile_loadd(5, inputs + kTile * call.row_bytes, call.row_bytes);
    _tile_dpbf16ps(1, 4, 7);
    fetch_lines<_MM_HINT_T1, kLines / 2>(ahead + kLines / 2 * kLineBytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    inputs += kTileInputs * 2;
    panels += kTileBytes;
    ahead += kLines * kLineBytes;
  }
  _tile_stored(0, sums, kLineBytes);
  _tile_stored(1, sums + kPanelSums, kLineBytes);
  _tile_stored(2, sums + kTile * kPanelLanes, kLineBytes);
  _tile_stored(3, sums + kPanelSums + kTile * kPanelLanes, kLineBytes);
}

// 16 rows times 4 panels: sums in tiles 0-3, rows in 4, weights in 5 to 7 and 5 again.
template <bool kNear>
void tile_1x4(const TileCall& call) {
  float* sums = call.accumulators;
  if (call.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kLineBytes);
    _tile_loadd(1, sums + kPanelSums, kLineBytes);
    _tile_loadd(2, sums + 2 * kPanelSums, kLineBytes);
    _tile_loadd(3, sums + 3 * kPanelSums, kLineBytes);
  }
  const std::byte* inputs = call.inputs;
  const std::byte* panels = call.panels;
  const std::byte* near = panels + kNearBytes;
  for (int k = 0; k < call.depth; k += kTileInputs) {
    if constexpr (kNear) {
      // Past its end a panel is followed by the same one of the next four.
      if (near == call.panel_end) near += 3 * call.panel_bytes;
#pragma GCC unroll 4
      for (int panel = 0; panel < 4; ++panel)
        fetch_lines<_MM_HINT_T0>(near + panel * call.panel_bytes);
      near += kTileBytes;
    }
    _tile_loadd(4, inputs, call.row_bytes);
    _tile_loadd(5, panels, kLineBytes);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, panels + call.panel_bytes, kLineBytes);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, panels + 2 * call.panel_bytes, kLineBytes);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, panels + 3 * call.panel_bytes, kLineBytes);
    _tile_dpbf16ps(3, 4, 5);
    inputs += kTileInputs * 2;
    panels += kTileBytes;
  }
  _tile_stored(0, sums, kLineBytes);
  _tile_stored(1, sums + kPanelSums, kLineBytes);
  _tile_stored(2, sums + 2 * kPanelSums, kLineBytes);
  _tile_stored(3, sums + 3 * kPanelSums, kLineBytes);
}

// 16 rows times 1 panel, for what is left.
void tile_1x1(const TileCall& call) {
  if (call.first) {
    _tile_zero(0);
  } else {
    _tile_loadd(0, call.accumulators, kLineBytes);
  }
  const std::byte* inputs = call.inputs;
  const std::byte* panels = call.panels;
  for (int k = 0; k < call.depth; k += kTileInputs) {
    fetch_lines<_MM_HINT_T0>(panels + kNearBytes);
    _tile_loadd(4, inputs, call.row_bytes);
    _tile_loadd(5, panels, kLineBytes);
    _tile_dpbf16ps(0, 4, 5);
    inputs += kTileInputs * 2;
    panels += kTileBytes;
  }
  _tile_stored(0, call.accumulators, kLineBytes);
}

constexpr int kGroup = 4;  // panels that all rows take before the next ones

// One row tile times a group; `call` is at its first panel.
void multiply_row_tile(TileCall call, int panels, bool alone) {
  if (panels == kGroup) {
    (alone ? tile_1x4<true> : tile_1x4<false>)(call);
    return;
  }
  for (int panel = 0; panel < panels; ++panel) {
    tile_1x1(call);
    call.panels += call.panel_bytes;
    call.accumulators += kPanelSums;
  }
}

// The weights of later panels, one block of inputs deep, spread evenly over all products of two row
// tiles and two panels: memory is never asked for more at a time than it can give.
class Ahead {
 public:
  // `k`: where the block of inputs begins; `steps`: of this product on this block.
  Ahead(const PanelProduct& product, bool last_group, std::int64_t k, int depth, int steps)
      : panels_(product.ahead + k * kPanelLanes * 2),
        panel_bytes_(product.panel_bytes),
        depth_(depth),
        step_(product.ahead_part * steps),
        end_(last_group ? product.ahead_count * kTile : 0) {
    const int all_steps = product.ahead_parts * steps;
    while (lines_ < kMostLines && lines_ * all_steps < end_)
      lines_ *= 2;
  }

  void multiply(TileCall call) {
    const int first = step_++ * lines_;  // in lines of a tile; a panel has kTile times its depth
    if (first >= end_) return tile_2x2<0>(call);
    call.ahead = panels_ + first / kTile * panel_bytes_ +
                 static_cast<std::ptrdiff_t>(first % kTile) * depth_ * 2;
    (lines_ == 4 ? tile_2x2<4> : lines_ == 8 ? tile_2x2<8> : tile_2x2<16>)(call);
  }

 private:
  static constexpr int kMostLines = 16;

  const std::byte* panels_;
  std::size_t panel_bytes_;
  int depth_;
  int step_;
  int end_;
  int lines_ = 4;
};

// All row tiles times a group over one block of inputs; `call` is at the first of each.
void multiply_group(const TileCall& call, int row_tiles, int panels, Ahead ahead) {
  if (row_tiles == 1) return multiply_row_tile(call, panels, true);
  for (int tile = 0; tile < row_tiles; tile += 2) {
    TileCall rows = call;
    rows.inputs += tile * kTile * call.row_bytes;
    rows.accumulators += static_cast<std::ptrdiff_t>(tile) * kTile * kPanelLanes;
    if (tile + 1 == row_tiles) return multiply_row_tile(rows, panels, false);
    int panel = 0;
    for (; panel + 2 <= panels; panel += 2) {
      ahead.multiply(rows);
      rows.panels += 2 * rows.panel_bytes;
      rows.accumulators += 2 * kPanelSums;
    }
    if (panel < panels) {
      tile_1x1(rows);
      rows.inputs += kTile * call.row_bytes;
      rows.accumulators += kTile * kPanelLanes;
      tile_1x1(rows);
    }
  }
}

}  // namespace

int begin_amx(int rows) {
  const int multiple = rows < kTile ? rows : kTile;
  configure_tiles(multiple);
  return multiple;
}

void end_amx() {
  release_tiles();
}

void multiply_bf16_amx_bf16(const PanelProduct& product) {
  const int row_tiles = (product.rows + kTile - 1) / kTile;
  const auto least = [](int a, int b) { return a < b ? a : b; };
  // Panels outermost, so that a decode reads each as one stream.
  for (int panel = 0; panel < product.panel_count; panel += kGroup) {
    const int count = least(product.panel_count - panel, kGroup);
    const bool last = panel + kGroup >= product.panel_count;
    for (std::int64_t k = 0; k < product.k_padded; k += kStagedTiles.k_block) {
      TileCall call{};
      call.inputs = product.staged + k / kStagedTiles.k_block * product.block_bytes;
      call.row_bytes = product.row_bytes;
      call.panels = product.panels + panel * product.panel_bytes + k * kPanelLanes * 2;
      call.panel_bytes = product.panel_bytes;
      call.panel_end = product.panels + (panel + 1) * product.panel_bytes;
      call.depth = static_cast<int>(product.k_padded - k < kStagedTiles.k_block
                                        ? product.k_padded - k
                                        : std::int64_t{kStagedTiles.k_block});
      call.accumulators = product.accumulators + panel * kPanelSums;
      call.first = product.first && k == 0;
      multiply_group(call, row_tiles, count,
                     Ahead(product, last, k, call.depth, row_tiles / 2 * (count / 2)));
    }
  }
}

}  // namespace gimbal::kernels
