#include <immintrin.h>

#include "kernels/panel_kernel.h"

namespace gimbal::kernels {
namespace {

constexpr int kTile = 16;                           // rows of every tile
constexpr int kTileInputs = 32;                     // bfloat16 in a tile's row
constexpr int kLineBytes = 64;                      // a tile's row
constexpr int kTileBytes = kTile * kLineBytes;      // also the weights of one panel and 32 inputs
constexpr int kRowBytes = kStagedTiles.stride * 2;  // between staged rows
constexpr int kPanelSums = kMaxTileRows * kPanelLanes;

// Palette 1: the shapes of the eight tile registers. Every tile has 16 rows of 64 bytes: staged
// rows are padded to it, and so is the depth.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {kLineBytes, kLineBytes, kLineBytes, kLineBytes,
                                 kLineBytes, kLineBytes, kLineBytes, kLineBytes};
  std::uint8_t rows[16] = {kTile, kTile, kTile, kTile, kTile, kTile, kTile, kTile};
};
static_assert(sizeof(TileShapes) == 64);

// A constant in memory: GCC takes _tile_loadconfig for a read of eight bytes, and may leave out
// stores to the rest of a local variable.
constexpr TileShapes kTileShapes;

void configure_tiles() {
  _tile_loadconfig(&kTileShapes);
}

// Arguments of one register tile over `depth` inputs, a multiple of 32.
struct TileCall {
  const std::byte* inputs;
  const std::byte* panels;
  std::size_t panel_bytes;
  int depth;
  float* accumulators;
  bool first;
};

// 32 rows times 2 panels: sums in tiles 0-3, rows in 4 and 5, weights in 6 and 7.
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
  for (int k = 0; k < call.depth; k += kTileInputs) {
    _tile_loadd(6, panels, kLineBytes);
    _tile_loadd(4, inputs, kRowBytes);
    _tile_loadd(7, panels + call.panel_bytes, kLineBytes);
    _tile_loadd(5, inputs + kTile * kRowBytes, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    inputs += kTileInputs * 2;
    panels += kTileBytes;
  }
  _tile_stored(0, sums, kLineBytes);
  _tile_stored(1, sums + kPanelSums, kLineBytes);
  _tile_stored(2, sums + kTile * kPanelLanes, kLineBytes);
  _tile_stored(3, sums + kPanelSums + kTile * kPanelLanes, kLineBytes);
}

// 16 rows times 4 panels: sums in tiles 0-3, rows in 4, weights in 5 to 7 and 5 again.
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
  for (int k = 0; k < call.depth; k += kTileInputs) {
    _tile_loadd(4, inputs, kRowBytes);
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
    _tile_loadd(4, inputs, kRowBytes);
    _tile_loadd(5, panels, kLineBytes);
    _tile_dpbf16ps(0, 4, 5);
    inputs += kTileInputs * 2;
    panels += kTileBytes;
  }
  _tile_stored(0, call.accumulators, kLineBytes);
}

// Two row tiles at once where there are two, else one; each with as many panels as sums fit.
void multiply_rows(TileCall call, bool two_row_tiles, int panel_count) {
  const int wide = two_row_tiles ? 2 : 4;
  int panel = 0;
  for (; panel + wide <= panel_count; panel += wide) {
    (two_row_tiles ? tile_2x2 : tile_1x4)(call);
    call.panels += wide * call.panel_bytes;
    call.accumulators += wide * kPanelSums;
  }
  for (; panel < panel_count; ++panel) {
    tile_1x1(call);
    if (two_row_tiles) {
      TileCall second = call;
      second.inputs += kTile * kRowBytes;
      second.accumulators += kTile * kPanelLanes;
      tile_1x1(second);
    }
    call.panels += call.panel_bytes;
    call.accumulators += kPanelSums;
  }
}

}  // namespace

GIMBAL_PANEL_MULTIPLY(multiply_bf16_amx_bf16) {
  const int row_tiles = (rows + kTile - 1) / kTile;
  constexpr int kWide = 4;
  configure_tiles();
  // Panels outermost, so that a decode reads each as one stream.
  for (int panel = 0; panel < panel_count; panel += kWide) {
    const int count = panel_count - panel < kWide ? panel_count - panel : kWide;
    for (std::int64_t k = 0; k < k_padded; k += kStagedTiles.k_block) {
      const std::int64_t left = k_padded - k;
      TileCall call{};
      call.panels = panels + panel * panel_bytes + k * kPanelLanes * 2;
      call.panel_bytes = panel_bytes;
      call.depth = static_cast<int>(left < kStagedTiles.k_block ? left : kStagedTiles.k_block);
      call.first = first && k == 0;
      const std::byte* block =
          staged + k / kStagedTiles.k_block * row_tiles * kTile * std::int64_t{kRowBytes};
      for (int tile = 0; tile < row_tiles; tile += 2) {
        call.inputs = block + tile * kTile * kRowBytes;
        call.accumulators = accumulators + panel * kPanelSums +
                            static_cast<std::ptrdiff_t>(tile) * kTile * kPanelLanes;
        multiply_rows(call, tile + 2 <= row_tiles, count);
      }
    }
  }
  _tile_release();
}

}  // namespace gimbal::kernels
