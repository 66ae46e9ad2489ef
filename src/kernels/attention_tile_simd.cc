// Attention tiles by float multiply-add: every level for f32, and bf16 where there is no bf16 dot
// product. A row's score is one chain of multiply-adds over the head's dimensions, and an output's
// sum one chain over the block's keys, whatever the tile's shape.
#include "kernels/attention_tile.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_tile_simd.cc"
#include <hwy/foreach_target.h>

#include "kernels/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {
namespace attention_simd {

using tensor::BFloat16;

constexpr int kStripRows = 6;  // 6 rows x 2 vectors of sums fill the 16 registers of AVX2

// The keys and values of a block, page by page, in the layout of KvLayout for T.
template <class T>
struct BlockPanels {
  const T* keys[kBlockPages];
  const T* values[kBlockPages];
};

// Two neighbouring rows of a panel: dimensions d, d + 1 of keys, or tokens t, t + 1 of values.
struct RowPair {
  Floats even;
  Floats odd;
};
HWY_INLINE RowPair load_pair(const float* panel, std::int64_t pair, std::int64_t row_size,
                             std::int64_t at) {
  const float* from = panel + 2 * pair * row_size + at;
  return {load(from), load(from + row_size)};
}
HWY_INLINE RowPair load_pair(const BFloat16* panel, std::int64_t pair, std::int64_t row_size,
                             std::int64_t at) {
  const WordTag words;
  const BFloat16* from = panel + 2 * (pair * row_size + at);
  const auto both = hn::LoadU(words, reinterpret_cast<const std::uint32_t*>(from));
  return {hn::BitCast(FloatTag(), hn::ShiftLeft<16>(both)),
          hn::BitCast(FloatTag(), hn::And(both, hn::Set(words, 0xffff0000U)))};
}

// scores[r][first ... first + kVectors * kLanes) = q[r] . keys
template <int kRows, int kVectors, class T>
HWY_INLINE void multiply_keys(const float* q, std::int64_t head_dim, const BlockPanels<T>& block,
                              std::int64_t first, float* scores) {
  Floats sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = hn::Zero(FloatTag());
  }
  for (std::int64_t d = 0; d < head_dim; d += 2) {
    RowPair keys[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t token = first + v * kLanes;
      keys[v] = load_pair(block.keys[token / kPageTokens], d / 2, kPageTokens, token % kPageTokens);
    }
    for (int r = 0; r < kRows; ++r) {
      const Floats value = hn::Set(FloatTag(), q[r * head_dim + d]);
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = hn::MulAdd(value, keys[v].even, sum[r][v]);
    }
    for (int r = 0; r < kRows; ++r) {
      const Floats value = hn::Set(FloatTag(), q[r * head_dim + d + 1]);
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = hn::MulAdd(value, keys[v].odd, sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      store(sum[r][v], scores + r * kBlockTokens + first + v * kLanes);
    }
  }
}

// sums[r][at ...) = keep[r] * sums[r][at ...) + p[r] . values, over keys [begin, end) of the block.
template <int kRows, int kVectors, class T>
HWY_INLINE void multiply_values(const float* p, const float* keep, const BlockPanels<T>& block,
                                std::int64_t begin, std::int64_t end, std::int64_t head_dim,
                                std::int64_t at, float* sums) {
  Floats sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    const Floats scale = hn::Set(FloatTag(), keep[r]);
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = hn::Mul(load(sums + r * head_dim + at + v * kLanes), scale);
    }
  }
  for (std::int64_t page = begin / kPageTokens; page * kPageTokens < end; ++page) {
    const std::int64_t start = page * kPageTokens;
    const std::int64_t last = std::min(end, start + kPageTokens);
    // Pairs that straddle an end bring a slot that may hold anything: it must not be multiplied.
    for (std::int64_t token = std::max(begin, start) & ~std::int64_t{1}; token < last; token += 2) {
      RowPair values[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        values[v] = load_pair(block.values[page], (token - start) / 2, head_dim, at + v * kLanes);
      }
      if (token >= begin) {
        for (int r = 0; r < kRows; ++r) {
          const Floats weight = hn::Set(FloatTag(), p[r * kBlockTokens + token]);
          for (int v = 0; v < kVectors; ++v)
            sum[r][v] = hn::MulAdd(weight, values[v].even, sum[r][v]);
        }
      }
      if (token + 1 < last) {
        for (int r = 0; r < kRows; ++r) {
          const Floats weight = hn::Set(FloatTag(), p[r * kBlockTokens + token + 1]);
          for (int v = 0; v < kVectors; ++v)
            sum[r][v] = hn::MulAdd(weight, values[v].odd, sum[r][v]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      store(sum[r][v], sums + r * head_dim + at + v * kLanes);
    }
  }
}

// A strip is kRows neighbouring rows of the tile. `visible` are its union over rows; see run_strip.
struct Strip {
  const AttentionTile* tile;
  std::int64_t row;    // the first
  std::int64_t block;  // the position of the block's first key
  std::int64_t begin;  // keys of the block that any of the rows sees
  std::int64_t end;
};

template <int kRows, class T>
HWY_INLINE void run_strip(const Strip& strip, const float* q, const BlockPanels<T>& block,
                          const SoftmaxState& state) {
  constexpr int kVectors = kRows <= 2 || kLanes == 16 ? 4 : 2;
  const std::int64_t head_dim = strip.tile->shape->head_dim;
  alignas(64) float scores[kRows * kBlockTokens];
  constexpr std::int64_t kStep = kVectors * kLanes;
  for (std::int64_t at = strip.begin / kStep * kStep; at < strip.end; at += kStep) {
    multiply_keys<kRows, kVectors>(q + strip.row * head_dim, head_dim, block, at, scores);
  }
  float keep[kRows];
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t row = strip.row + r;
    const std::int64_t position = strip.tile->position_of(row);
    keep[r] = softmax_step(scores + r * kBlockTokens, strip.tile->first_key(position) - strip.block,
                           position + 1 - strip.block, &state.maxima[row], &state.weights[row]);
  }
  float* sums = state.sums + strip.row * head_dim;
  std::int64_t at = 0;
  for (; at + kStep <= head_dim; at += kStep) {
    multiply_values<kRows, kVectors>(scores, keep, block, strip.begin, strip.end, head_dim, at,
                                     sums);
  }
  for (; at < head_dim; at += kLanes) {
    multiply_values<kRows, 1>(scores, keep, block, strip.begin, strip.end, head_dim, at, sums);
  }
}

template <class T>
using StripFunction = void (*)(const Strip&, const float*, const BlockPanels<T>&,
                               const SoftmaxState&);

template <int kRows, class T>
HWY_NOINLINE void strip_function(const Strip& strip, const float* q, const BlockPanels<T>& block,
                                 const SoftmaxState& state) {
  run_strip<kRows>(strip, q, block, state);
}

template <class T>
constexpr StripFunction<T> kStripFunctions[kStripRows + 1] = {nullptr,
                                                              &strip_function<1, T>,
                                                              &strip_function<2, T>,
                                                              &strip_function<3, T>,
                                                              &strip_function<4, T>,
                                                              &strip_function<5, T>,
                                                              &strip_function<6, T>};

// All rows of the tile against one block.
template <class T>
HWY_INLINE void run_block(const AttentionTile& tile, std::int64_t block_position, const float* q,
                          const BlockPanels<T>& block, const SoftmaxState& state) {
  const std::int64_t rows = tile.rows();
  const std::int64_t strips = (rows + kStripRows - 1) / kStripRows;
  for (std::int64_t s = 0; s < strips; ++s) {
    const std::int64_t row = rows * s / strips;
    const std::int64_t end_row = rows * (s + 1) / strips;
    const std::int64_t first = tile.first_key(tile.position_of(row)) - block_position;
    const std::int64_t last = tile.position_of(end_row - 1) - block_position;
    const Strip strip{&tile, row, block_position, std::max<std::int64_t>(first, 0),
                      std::min(last + 1, kBlockTokens)};
    if (strip.begin >= strip.end) continue;  // no row sees a key: the step would change nothing
    kStripFunctions<T>[end_row - row](strip, q, block, state);
  }
}

// The block's pages as they lie in the cache. Pages that no row needs are stood in for by one that
// is there: what is read of them is masked.
template <class T>
HWY_INLINE BlockPanels<T> panels_of(const AttentionTile& tile, std::int64_t block) {
  const PageRange range = pages_needed(tile, block);
  BlockPanels<T> panels;
  for (std::int64_t i = 0; i < kBlockPages; ++i) {
    const std::int64_t page = std::clamp(i, range.begin, range.end - 1);
    const std::int32_t id = tile.pages[block / kPageTokens + page];
    panels.keys[i] = reinterpret_cast<const T*>(tile.layer->keys(id, tile.kv_head));
    panels.values[i] = reinterpret_cast<const T*>(tile.layer->values(id, tile.kv_head));
  }
  return panels;
}

// Room for a block's keys and values as floats.
struct WideBlock {
  alignas(64) float keys[kBlockTokens * kMaxHeadDim];
  alignas(64) float values[kBlockTokens * kMaxHeadDim];
};

// Splits rows of pairs into pairs of rows.
HWY_INLINE void widen_panel(const BFloat16* from, std::int64_t row_size, std::int64_t pairs,
                            float* to) {
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    for (std::int64_t at = 0; at < row_size; at += kLanes) {
      const RowPair rows = load_pair(from, pair, row_size, at);
      store(rows.even, to + 2 * pair * row_size + at);
      store(rows.odd, to + (2 * pair + 1) * row_size + at);
    }
  }
}

HWY_INLINE BlockPanels<float> widen_block(const AttentionTile& tile, std::int64_t block,
                                          WideBlock& wide) {
  const PageRange range = pages_needed(tile, block);
  const std::int64_t head_dim = tile.shape->head_dim;
  const BlockPanels<BFloat16> narrow = panels_of<BFloat16>(tile, block);
  BlockPanels<float> panels;
  for (std::int64_t i = 0; i < kBlockPages; ++i) {
    const std::int64_t page = std::clamp(i, range.begin, range.end - 1);
    float* keys = wide.keys + page * kPageTokens * head_dim;
    float* values = wide.values + page * kPageTokens * head_dim;
    if (page == i) {
      widen_panel(narrow.keys[page], kPageTokens, head_dim / 2, keys);
      widen_panel(narrow.values[page], head_dim, kPageTokens / 2, values);
    }
    panels.keys[i] = keys;
    panels.values[i] = values;
  }
  return panels;
}

// The queries as floats, scaled so that the softmax may use powers of 2.
template <class T>
HWY_INLINE void load_queries(const AttentionTile& tile, float* q) {
  const std::int64_t head_dim = tile.shape->head_dim;
  const std::int64_t group = tile.group();
  const Floats scale = hn::Set(FloatTag(), tile.shape->scale * kLog2E);
  for (std::int64_t r = 0; r < tile.rows(); ++r) {
    const T* from =
        reinterpret_cast<const T*>(tile.q) + (r / group) * tile.q_stride + (r % group) * head_dim;
    for (std::int64_t d = 0; d < head_dim; d += kLanes) {
      store(hn::Mul(load(from + d), scale), q + r * head_dim + d);
    }
  }
}

template <class T>
HWY_INLINE void run_segment(const AttentionTile& tile, std::int64_t segment, const float* q,
                            const SoftmaxState& state) {
  clear(state, tile.rows(), tile.shape->head_dim);
  const std::int64_t first =
      std::max(segment * kSegmentTokens, tile.first_key(tile.first_position));
  const std::int64_t end = std::min((segment + 1) * kSegmentTokens, tile.end_key());
  for (std::int64_t block = first / kBlockTokens * kBlockTokens; block < end;
       block += kBlockTokens) {
    if constexpr (sizeof(T) == 2) {
      // Few rows take the cache as it is; many share one widening.
      if (tile.rows() > 2 * kStripRows) {
        WideBlock wide;
        run_block(tile, block, q, widen_block(tile, block, wide), state);
        continue;
      }
    }
    run_block(tile, block, q, panels_of<T>(tile, block), state);
  }
}

template <class T>
void run_tile(const AttentionTile& tile) {
  const std::int64_t rows = tile.rows();
  const std::int64_t head_dim = tile.shape->head_dim;
  alignas(64) float q[kTileRows * kMaxHeadDim];
  alignas(64) float part_sums[kTileRows * kMaxHeadDim];
  alignas(64) float total_sums[kTileRows * kMaxHeadDim];
  float part_rows[2][kTileRows];
  float total_rows[2][kTileRows];
  const SoftmaxState total{total_sums, total_rows[0], total_rows[1]};
  load_queries<T>(tile, q);
  if (tile.partials == nullptr) clear(total, rows, head_dim);
  for (std::int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) {
    if (tile.partials != nullptr) {
      float* part = tile.partial(segment);
      run_segment<T>(tile, segment, q,
                     {part, part + rows * head_dim, part + rows * (head_dim + 1)});
    } else {
      const SoftmaxState part{part_sums, part_rows[0], part_rows[1]};
      run_segment<T>(tile, segment, q, part);
      fold(part, total, rows, head_dim);
    }
  }
  if (tile.partials == nullptr) write_rows<T>(tile, total);
}

template <class T>
void finish_tile(const AttentionTile& tile) {
  finish_partials<T>(tile);
}

AttentionTileKernel kernel_for(tensor::DType dtype) {
  if (dtype == tensor::DType::kBF16) return {&run_tile<BFloat16>, &finish_tile<BFloat16>};
  return {&run_tile<float>, &finish_tile<float>};
}

}  // namespace attention_simd
}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gimbal::kernels {

AttentionTileKernel attention_tile_kernel(Isa isa, tensor::DType dtype) {
  return GIMBAL_SELECT_SIMD(isa, attention_simd::kernel_for)(dtype);
}

}  // namespace gimbal::kernels
#endif
