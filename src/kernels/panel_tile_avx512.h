#pragma once

#include <immintrin.h>

#include "kernels/panel_kernel.h"

// Inside the panel kernels for AVX-512, which differ in how a line of weights is read and in the
// multiply-add: register tiles of sums and the walk over rows, inputs and panels. For sources
// compiled with AVX-512 flags only, so everything here has internal linkage.
namespace gimbal::kernels {
namespace {

// Sums [kRows][16] of kPanels panels. Loops over arrays are unrolled, so that they live in
// registers.
template <int kRows, int kPanels>
struct Sums512 {
  __m512 at[kRows][kPanels];

  __attribute__((always_inline)) void load(const float* accumulators, bool first) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
      for (int panel = 0; panel < kPanels; ++panel) {
        const float* from = accumulators + (panel * kMaxTileRows + row) * kPanelLanes;
        at[row][panel] = first ? _mm512_setzero_ps() : _mm512_load_ps(from);
      }
    }
  }

  __attribute__((always_inline)) void store(float* accumulators) const {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
      for (int panel = 0; panel < kPanels; ++panel) {
        _mm512_store_ps(accumulators + (panel * kMaxTileRows + row) * kPanelLanes, at[row][panel]);
      }
    }
  }
};

// Arguments of one tile: a block of rows times `kPanels` panels over `depth` inputs.
struct TileCall {
  const std::byte* inputs;
  const std::byte* panels;
  std::size_t panel_bytes;
  int depth;
  float* accumulators;
  bool first;
  bool few_rows;  // no other rows share the panels while they are cached
};

// What an instruction set and element type bring: kLayout, kInputBytes, kWeightBytes (of an
// element), and tile<kRows, kPanels>(call).
//
// Few rows take four panels at once, for enough independent sums and streams; many rows take two.
constexpr int kTileRows512 = 12;
constexpr int kFewRows512 = 6;

// Few rows read weights faster than the processor fetches them by itself: asks for what comes some
// lines later in each panel.
template <int kPanels>
__attribute__((always_inline)) inline void fetch_near(const std::byte* panels,
                                                      std::size_t panel_bytes) {
  constexpr int kNearBytes = 2048;
#pragma GCC unroll 4
  for (int panel = 0; panel < kPanels; ++panel)
    _mm_prefetch(panels + panel * panel_bytes + kNearBytes, _MM_HINT_T0);
}

template <class Level, int kPanels>
constexpr void (*tile_of(int rows))(const TileCall&) {
  using Tile = void (*)(const TileCall&);
  constexpr Tile kFew[] = {Level::template tile<1, kPanels>, Level::template tile<2, kPanels>,
                           Level::template tile<3, kPanels>, Level::template tile<4, kPanels>,
                           Level::template tile<5, kPanels>, Level::template tile<6, kPanels>};
  if (rows <= kFewRows512) return kFew[rows - 1];
  if constexpr (kPanels <= 2) {
    constexpr Tile kMany[] = {Level::template tile<7, kPanels>,  Level::template tile<8, kPanels>,
                              Level::template tile<9, kPanels>,  Level::template tile<10, kPanels>,
                              Level::template tile<11, kPanels>, Level::template tile<12, kPanels>};
    return kMany[rows - kFewRows512 - 1];
  }
  return nullptr;
}

// PanelKernel::multiply. Rows are cut evenly into blocks of at most kTileRows512, which share each
// block of a panel while it is cached.
template <class Level>
void multiply_512(const PanelProduct& product) {
  const int rows = product.rows;
  constexpr int kBlock = Level::kLayout.k_block;
  constexpr std::int64_t kRowBytes = Level::kLayout.stride * Level::kInputBytes;
  const int blocks = (rows + kTileRows512 - 1) / kTileRows512;
  const int wide = rows <= kFewRows512 ? 4 : 2;
  for (int panel = 0; panel < product.panel_count;) {
    const int step = panel + wide <= product.panel_count ? wide : 1;
    for (std::int64_t k = 0; k < product.k_padded; k += kBlock) {
      const std::int64_t left = product.k_padded - k;
      TileCall call{};
      call.panels =
          product.panels + panel * product.panel_bytes + k * kPanelLanes * Level::kWeightBytes;
      call.panel_bytes = product.panel_bytes;
      call.depth = static_cast<int>(left < kBlock ? left : kBlock);
      call.first = product.first && k == 0;
      call.few_rows = blocks == 1;
      for (int block = 0; block < blocks; ++block) {
        const int begin = rows * block / blocks;
        const int count = rows * (block + 1) / blocks - begin;
        call.inputs = product.staged + (k / kBlock * rows + begin) * kRowBytes;
        call.accumulators = product.accumulators + (panel * kMaxTileRows + begin) * kPanelLanes;
        (step == 4   ? tile_of<Level, 4>(count)
         : step == 2 ? tile_of<Level, 2>(count)
                     : tile_of<Level, 1>(count))(call);
      }
    }
    panel += step;
  }
}

}  // namespace
}  // namespace gimbal::kernels
