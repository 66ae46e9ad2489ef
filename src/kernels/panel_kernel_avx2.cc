#include <immintrin.h>

#include "kernels/panel_kernel.h"

namespace gimbal::kernels {
namespace {

// One row's inputs of one block as float32, zero from `count` to `padded` (a multiple of 16).
void widen_row(const std::byte* source, std::int64_t count, std::int64_t padded, float* target) {
  const auto* in = reinterpret_cast<const std::uint16_t*>(source);
  std::int64_t k = 0;
  for (; k + 16 <= count; k += 16) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + k));
    const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(bits));
    const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(bits, 1));
    _mm256_store_ps(target + k, _mm256_castsi256_ps(_mm256_slli_epi32(low, 16)));
    _mm256_store_ps(target + k + 8, _mm256_castsi256_ps(_mm256_slli_epi32(high, 16)));
  }
  auto* out = reinterpret_cast<std::uint32_t*>(target);
  for (; k < count; ++k)
    out[k] = static_cast<std::uint32_t>(in[k]) << 16;
  for (; k < padded; ++k)
    out[k] = 0;
}

// The same without a change of type; `bytes` and `padded_bytes` (a multiple of 32) a row.
void copy_row(const std::byte* source, std::int64_t bytes, std::int64_t padded_bytes,
              std::byte* target) {
  std::int64_t at = 0;
  for (; at + 32 <= bytes; at += 32) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(target + at),
                       _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + at)));
  }
  for (; at < bytes; ++at)
    target[at] = source[at];
  for (; at < padded_bytes; ++at)
    target[at] = std::byte{0};
}

// Calls stage_row(row, first input, inputs, inputs with padding, target) for every row and block.
template <StagedLayout kLayout, int kElement, class StageRow>
void for_each_staged_row(const RowsToStage& call, std::byte* staged, StageRow stage_row) {
  for (std::int64_t begin = 0; begin < call.k_padded; begin += kLayout.k_block) {
    std::int64_t padded = call.k_padded - begin;
    if (padded > kLayout.k_block) padded = kLayout.k_block;
    std::int64_t valid = call.k_count - begin;
    if (valid > padded) valid = padded;
    if (valid < 0) valid = 0;
    for (int row = 0; row < call.count + call.padding; ++row) {
      stage_row(row, begin, row < call.count ? valid : 0, padded, staged);
      staged += kLayout.stride * kElement;
    }
  }
}

template <StagedLayout kLayout, int kElement>
void stage_copies(const RowsToStage& call, std::byte* staged) {
  for_each_staged_row<kLayout, kElement>(
      call, staged,
      [&](int row, std::int64_t begin, std::int64_t valid, std::int64_t padded, std::byte* target) {
        const std::byte* source =
            valid > 0 ? call.rows[row] + (call.k_begin + begin) * kElement : nullptr;
        copy_row(source, valid * kElement, padded * kElement, target);
      });
}

// Bytes of a panel that are read together: 16 pairs of bfloat16, or 16 floats.
constexpr int kLine = 64;

// Arguments of one tile: a block of rows times one or more panels, over `depth` inputs of a block.
struct TileCall {
  const float* inputs;
  const std::byte* panels;
  std::size_t panel_bytes;
  int depth;
  float* accumulators;
  bool first;
  // What to fetch into the cache meanwhile, `ahead_step` bytes further for each line that is read.
  const std::byte* ahead;
  int ahead_step;
};

// sum += a * b. Written as an instruction because the compiler, given the intrinsic, lets the sum
// wander into other registers and runs out of them.
__attribute__((always_inline)) inline void multiply_add(__m256& sum, __m256 a, __m256 b) {
  asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}

// Accumulators [kRows][16] of kPanels panels, over `depth` inputs of one block. Loops over arrays
// are unrolled, so that the sums live in registers.
template <int kRows, int kPanels>
struct Sums {
  __m256 at[kRows][kPanels][2];

  __attribute__((always_inline)) void load(const float* accumulators, bool first) {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int panel = 0; panel < kPanels; ++panel) {
        const float* from = accumulators + (panel * kMaxTileRows + row) * kPanelLanes;
        at[row][panel][0] = first ? _mm256_setzero_ps() : _mm256_load_ps(from);
        at[row][panel][1] = first ? _mm256_setzero_ps() : _mm256_load_ps(from + 8);
      }
    }
  }

  __attribute__((always_inline)) void store(float* accumulators) const {
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
      for (int panel = 0; panel < kPanels; ++panel) {
        float* to = accumulators + (panel * kMaxTileRows + row) * kPanelLanes;
        _mm256_store_ps(to, at[row][panel][0]);
        _mm256_store_ps(to + 8, at[row][panel][1]);
      }
    }
  }

  // One input of every row times one panel's 16 weights.
  __attribute__((always_inline)) void add(int panel, const float* inputs, int stride, __m256 low,
                                          __m256 high) {
    // With the inputs of all panels in registers, the sums would not fit: load them again.
    if constexpr (kRows > 2 && kPanels > 1) asm volatile("" : "+r"(inputs));
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const __m256 input = _mm256_broadcast_ss(inputs + row * stride);
      multiply_add(at[row][panel][0], input, low);
      multiply_add(at[row][panel][1], input, high);
    }
  }
};

template <int kRows, int kPanels, bool kFetch>
void tile_bf16(const TileCall& call) {
  Sums<kRows, kPanels> sums;
  sums.load(call.accumulators, call.first);
  const float* inputs = call.inputs;
  const std::byte* panels = call.panels;
  const std::byte* ahead = call.ahead;
  const __m256 odd_mask = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000U)));
  for (int k = 0; k < call.depth; k += 2) {
#pragma GCC unroll 8
    for (int panel = 0; panel < kPanels; ++panel) {
      if constexpr (kFetch) _mm_prefetch(ahead + panel * call.panel_bytes, _MM_HINT_T0);
      const std::byte* line = panels + panel * call.panel_bytes;
      const auto* pairs = reinterpret_cast<const __m256i*>(line);
      sums.add(panel, inputs, kStagedWidened.stride,
               _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(pairs), 16)),
               _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(pairs + 1), 16)));
      // Makes the compiler load the line again: with it in registers, the sums would not fit.
      asm volatile("" : "+r"(line));
      const auto* halves = reinterpret_cast<const float*>(line);
      sums.add(panel, inputs + 1, kStagedWidened.stride,
               _mm256_and_ps(odd_mask, _mm256_load_ps(halves)),
               _mm256_and_ps(odd_mask, _mm256_load_ps(halves + 8)));
    }
    panels += kLine;
    ahead += call.ahead_step;
    inputs += 2;
  }
  sums.store(call.accumulators);
}

template <int kRows, int kPanels, bool kFetch>
void tile_f32(const TileCall& call) {
  Sums<kRows, kPanels> sums;
  sums.load(call.accumulators, call.first);
  const float* inputs = call.inputs;
  const std::byte* panels = call.panels;
  const std::byte* ahead = call.ahead;
  for (int k = 0; k < call.depth; ++k) {
#pragma GCC unroll 8
    for (int panel = 0; panel < kPanels; ++panel) {
      if constexpr (kFetch) _mm_prefetch(ahead + panel * call.panel_bytes, _MM_HINT_T0);
      const auto* weights = reinterpret_cast<const float*>(panels + panel * call.panel_bytes);
      sums.add(panel, inputs, kStagedF32.stride, _mm256_load_ps(weights),
               _mm256_load_ps(weights + 8));
    }
    panels += kLine;
    ahead += call.ahead_step;
    inputs += 1;
  }
  sums.store(call.accumulators);
}

using Tile = void (*)(const TileCall&);

// The kernels for one number of rows: `wide` takes several panels at once, for enough independent
// sums where rows are few; `fetching` and `single` take one, with and without fetching ahead.
struct TileShapes {
  int wide_panels;
  Tile wide;
  Tile fetching;
  Tile single;
};

constexpr int kTileRows = 6;
constexpr TileShapes kTilesBf16[kTileRows] = {
    {4, tile_bf16<1, 4, false>, tile_bf16<1, 1, true>, tile_bf16<1, 1, false>},
    {2, tile_bf16<2, 2, true>, tile_bf16<2, 1, true>, tile_bf16<2, 1, false>},
    {2, tile_bf16<3, 2, true>, tile_bf16<3, 1, true>, tile_bf16<3, 1, false>},
    {1, nullptr, tile_bf16<4, 1, true>, tile_bf16<4, 1, false>},
    {1, nullptr, tile_bf16<5, 1, true>, tile_bf16<5, 1, false>},
    {1, nullptr, tile_bf16<6, 1, true>, tile_bf16<6, 1, false>}};
constexpr TileShapes kTilesF32[kTileRows] = {
    {4, tile_f32<1, 4, false>, tile_f32<1, 1, true>, tile_f32<1, 1, false>},
    {2, tile_f32<2, 2, true>, tile_f32<2, 1, true>, tile_f32<2, 1, false>},
    {2, tile_f32<3, 2, true>, tile_f32<3, 1, true>, tile_f32<3, 1, false>},
    {1, nullptr, tile_f32<4, 1, true>, tile_f32<4, 1, false>},
    {1, nullptr, tile_f32<5, 1, true>, tile_f32<5, 1, false>},
    {1, nullptr, tile_f32<6, 1, true>, tile_f32<6, 1, false>}};

// How far ahead a single block of rows fetches weights. Several blocks share the fetching of the
// next block of inputs.
constexpr int kFetchAhead = 4096;
// With more blocks of rows, arithmetic hides the reading by itself.
constexpr int kFetchingBlocks = 3;

// Rows are cut evenly into blocks of at most kTileRows, which share each block of a panel while it
// is in the first-level cache.
template <StagedLayout kLayout, int kWeightBytes>
void multiply(const TileShapes* shapes, const PanelProduct& product) {
  const int rows = product.rows;
  const int blocks = (rows + kTileRows - 1) / kTileRows;
  const TileShapes& largest = shapes[(rows + blocks - 1) / blocks - 1];
  const int step = blocks == 1 ? largest.wide_panels : 1;
  for (int panel = 0; panel < product.panel_count;) {
    const bool wide = step > 1 && panel + step <= product.panel_count;
    for (std::int64_t k = 0; k < product.k_padded; k += kLayout.k_block) {
      const std::int64_t left = product.k_padded - k;
      TileCall call{};
      call.panels = product.panels + panel * product.panel_bytes + k * kPanelLanes * kWeightBytes;
      call.panel_bytes = product.panel_bytes;
      call.depth = static_cast<int>(left < kLayout.k_block ? left : kLayout.k_block);
      call.first = product.first && k == 0;
      call.ahead_step = kLine / blocks;
      const int block_bytes = call.depth * kPanelLanes * kWeightBytes;
      for (int block = 0; block < blocks; ++block) {
        const int begin = rows * block / blocks;
        const int count = rows * (block + 1) / blocks - begin;
        call.inputs = reinterpret_cast<const float*>(product.staged) +
                      (k / kLayout.k_block * rows + begin) * kLayout.stride;
        call.accumulators = product.accumulators + (panel * kMaxTileRows + begin) * kPanelLanes;
        call.ahead =
            call.panels + (blocks == 1 ? kFetchAhead : block_bytes + block_bytes / blocks * block);
        const TileShapes& shape = shapes[count - 1];
        (wide ? shape.wide : blocks <= kFetchingBlocks ? shape.fetching : shape.single)(call);
      }
    }
    panel += wide ? step : 1;
  }
}

// Lanes [0, lanes) of eight, for masked loads and stores.
__m256i lane_mask(int lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Rounds to bfloat16 (nearest, ties to even; NaN stays NaN), in the low half of each lane.
__m256i round_to_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, is_nan);
}

void store_lanes(__m256 low, __m256 high, bool accumulate, int lanes, tensor::DType dtype,
                 std::byte* target) {
  if (dtype == tensor::DType::kF32) {
    auto* out = reinterpret_cast<float*>(target);
    if (lanes == kPanelLanes) {
      if (accumulate) {
        low = _mm256_add_ps(low, _mm256_loadu_ps(out));
        high = _mm256_add_ps(high, _mm256_loadu_ps(out + 8));
      }
      _mm256_storeu_ps(out, low);
      _mm256_storeu_ps(out + 8, high);
      return;
    }
    const __m256i low_mask = lane_mask(lanes);
    const __m256i high_mask = lane_mask(lanes - 8);
    if (accumulate) {
      low = _mm256_add_ps(low, _mm256_maskload_ps(out, low_mask));
      high = _mm256_add_ps(high, _mm256_maskload_ps(out + 8, high_mask));
    }
    _mm256_maskstore_ps(out, low_mask, low);
    _mm256_maskstore_ps(out + 8, high_mask, high);
    return;
  }
  const __m256i packed = _mm256_permute4x64_epi64(
      _mm256_packus_epi32(round_to_bf16(low), round_to_bf16(high)), 0b11011000);
  if (lanes == kPanelLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), packed);
    return;
  }
  alignas(32) std::uint16_t words[kPanelLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), packed);
  auto* out = reinterpret_cast<std::uint16_t*>(target);
  for (int lane = 0; lane < lanes; ++lane)
    out[lane] = words[lane];
}

// e^x for x in [-87, 88], within 2 units in the last place: 2^n times a Taylor polynomial.
__m256 exp_bounded(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341F)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts; the first has few bits, so that n times it is exact.
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375F), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4F), r);
  __m256 y = _mm256_set1_ps(1.0F / 5040);
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0F / 720));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0F / 120));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0F / 24));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0F / 6));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0.5F));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0F));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0F));
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(y, _mm256_castsi256_ps(power));
}

__m256 swiglu(__m256 gate, __m256 up) {
  const __m256 minus = _mm256_sub_ps(_mm256_setzero_ps(), gate);
  const __m256 bounded =
      _mm256_min_ps(_mm256_max_ps(minus, _mm256_set1_ps(-87.0F)), _mm256_set1_ps(88.0F));
  const __m256 silu =
      _mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0F), exp_bounded(bounded)));
  return _mm256_mul_ps(silu, up);
}

}  // namespace

void stage_f32(const RowsToStage& rows, std::byte* staged) {
  stage_copies<kStagedF32, 4>(rows, staged);
}

void stage_bf16(const RowsToStage& rows, std::byte* staged) {
  stage_copies<kStagedBf16, 2>(rows, staged);
}

void stage_tiles(const RowsToStage& rows, std::byte* staged) {
  stage_copies<kStagedTiles, 2>(rows, staged);
}

void stage_widened(const RowsToStage& rows, std::byte* staged) {
  for_each_staged_row<kStagedWidened, 4>(
      rows, staged,
      [&](int row, std::int64_t begin, std::int64_t valid, std::int64_t padded, std::byte* target) {
        const std::byte* source = valid > 0 ? rows.rows[row] + (rows.k_begin + begin) * 2 : nullptr;
        widen_row(source, valid, padded, reinterpret_cast<float*>(target));
      });
}

void store_panel(const float* accumulators, int rows, const float* bias, bool accumulate,
                 const PanelOutput& output) {
  __m256 low_bias = _mm256_setzero_ps();
  __m256 high_bias = _mm256_setzero_ps();
  if (bias != nullptr) {
    low_bias = _mm256_maskload_ps(bias, lane_mask(output.lanes));
    high_bias = _mm256_maskload_ps(bias + 8, lane_mask(output.lanes - 8));
  }
  for (int row = 0; row < rows; ++row) {
    const float* sums = accumulators + row * kPanelLanes;
    store_lanes(_mm256_add_ps(_mm256_load_ps(sums), low_bias),
                _mm256_add_ps(_mm256_load_ps(sums + 8), high_bias), accumulate, output.lanes,
                output.dtype, output.rows[row] + output.offset);
  }
}

void store_panel_swiglu(const float* gate, const float* up, int rows, const PanelOutput& output) {
  for (int row = 0; row < rows; ++row) {
    const float* g = gate + row * kPanelLanes;
    const float* u = up + row * kPanelLanes;
    store_lanes(swiglu(_mm256_load_ps(g), _mm256_load_ps(u)),
                swiglu(_mm256_load_ps(g + 8), _mm256_load_ps(u + 8)), false, output.lanes,
                output.dtype, output.rows[row] + output.offset);
  }
}

void multiply_f32_avx2(const PanelProduct& product) {
  multiply<kStagedF32, 4>(kTilesF32, product);
}

void multiply_bf16_avx2(const PanelProduct& product) {
  multiply<kStagedWidened, 2>(kTilesBf16, product);
}

}  // namespace gimbal::kernels
