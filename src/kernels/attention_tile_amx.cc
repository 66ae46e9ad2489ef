// Attention tiles by products of matrix tiles, for bf16 heads of a multiple of 32 dimensions. A
// row's score is a sum over pairs of dimensions in the order of the tile product, and an output's
// sum one over the block's 64 keys, whatever the tile's other rows. Probabilities are rounded to
// bf16; keys that a row does not see have probability zero.
#include "kernels/attention_tile.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_tile_amx.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>

#include "kernels/attention_tile-inl.h"

#if HWY_TARGET == HWY_AVX3
#include <immintrin.h>

#include "kernels/amx_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {
namespace attention_amx {

using tensor::BFloat16;

constexpr std::int64_t kTileSize = 16;    // rows of a matrix tile, and its columns of float
constexpr std::int64_t kTileInputs = 32;  // bf16 in a tile's row
constexpr std::int64_t kSumBytes = 64;    // of a tile's row of floats
// Elements from row to row, off powers of two, so that rows do not share sets of a cache.
constexpr std::int64_t kQueryStride = kMaxHeadDim + 32;
constexpr std::int64_t kProbabilityStride = kBlockTokens + 32;
constexpr std::int64_t kScoreStride = kBlockTokens + 16;
constexpr std::int64_t kSumStride = kMaxHeadDim + 16;

// What a tile of queries works in.
struct Work {
  alignas(64) BFloat16 q[kTileRows * kQueryStride];
  alignas(64) float scores[kTileRows * kScoreStride];
  alignas(64) BFloat16 p[kTileRows * kProbabilityStride];
  alignas(64) BFloat16 values[kBlockTokens * kMaxHeadDim];  // [32 pairs of keys][head_dim][2]
  alignas(64) float part_sums[kTileRows * kSumStride];
  alignas(64) float total_sums[kTileRows * kSumStride];
  float part_rows[2][kTileRows];
  float total_rows[2][kTileRows];
};

// Rows [first, end) of the tile that see a key of the block, widened to whole matrix tiles.
struct BlockRows {
  std::int64_t first;
  std::int64_t end;
};

HWY_INLINE void round_to(BFloat16* to, Floats value) {
  __m256i halves;
  asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(value.raw));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
}

void load_queries(const AttentionTile& tile, std::int64_t padded_rows, Work& work) {
  const std::int64_t head_dim = tile.shape->head_dim;
  const std::int64_t group = tile.group();
  const auto* q = reinterpret_cast<const BFloat16*>(tile.q);
  for (std::int64_t r = 0; r < padded_rows; ++r) {
    BFloat16* to = work.q + r * kQueryStride;
    if (r < tile.rows()) {
      std::copy_n(q + (r / group) * tile.q_stride + (r % group) * head_dim, head_dim, to);
    } else {
      std::fill_n(to, head_dim, BFloat16{});
    }
  }
}

// scores[r][0 ... 16) of one page: the rows of one matrix tile times 16 keys.
HWY_INLINE void multiply_keys(const BFloat16* q, const std::byte* keys, std::int64_t head_dim,
                              float* scores) {
  _tile_zero(0);
  for (std::int64_t d = 0; d < head_dim; d += kTileInputs) {
    _tile_loadd(4, q + d, kQueryStride * 2);
    _tile_loadd(6, keys + d * kPageTokens * 2, kSumBytes);
    _tile_dpbf16ps(0, 4, 6);
  }
  _tile_stored(0, scores, kScoreStride * 4);
}

// The same for two matrix tiles of rows and two pages.
HWY_INLINE void multiply_keys_twice(const BFloat16* q, const std::byte* first_keys,
                                    const std::byte* second_keys, std::int64_t head_dim,
                                    float* scores) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t d = 0; d < head_dim; d += kTileInputs) {
    _tile_loadd(4, q + d, kQueryStride * 2);
    _tile_loadd(6, first_keys + d * kPageTokens * 2, kSumBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, second_keys + d * kPageTokens * 2, kSumBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, q + kTileSize * kQueryStride + d, kQueryStride * 2);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  float* const next = scores + kTileSize * kScoreStride;
  _tile_stored(0, scores, kScoreStride * 4);
  _tile_stored(1, scores + kPageTokens, kScoreStride * 4);
  _tile_stored(2, next, kScoreStride * 4);
  _tile_stored(3, next + kPageTokens, kScoreStride * 4);
}

// Scores of all rows against the pages [0, pages) of the block.
void score_block(const std::byte* const (&keys)[kBlockPages], std::int64_t pages, BlockRows rows,
                 std::int64_t head_dim, Work& work) {
  for (std::int64_t row = rows.first; row < rows.end;) {
    const bool two = row + 2 * kTileSize <= rows.end;
    const BFloat16* q = work.q + row * kQueryStride;
    float* scores = work.scores + row * kScoreStride;
    for (std::int64_t page = 0; page < pages;) {
      if (two && page + 2 <= pages) {
        multiply_keys_twice(q, keys[page], keys[page + 1], head_dim, scores + page * kPageTokens);
        page += 2;
        continue;
      }
      multiply_keys(q, keys[page], head_dim, scores + page * kPageTokens);
      if (two) {
        multiply_keys(q + kTileSize * kQueryStride, keys[page], head_dim,
                      scores + kTileSize * kScoreStride + page * kPageTokens);
      }
      ++page;
    }
    row += two ? 2 * kTileSize : kTileSize;
  }
}

// The values of keys [begin, end) of the block, those of others zero.
void gather_values(const std::byte* const (&pages)[kBlockPages], std::int64_t begin,
                   std::int64_t end, std::int64_t head_dim, Work& work) {
  constexpr std::int64_t kPairs = kPageTokens / 2;  // of a page
  for (std::int64_t page = 0; page < kBlockPages; ++page) {
    const std::int64_t start = page * kPageTokens;
    auto* to = work.values + start * head_dim;
    const auto* from = reinterpret_cast<const BFloat16*>(pages[page]);
    if (start >= begin && start + kPageTokens <= end) {
      std::copy_n(from, kPageTokens * head_dim, to);
      continue;
    }
    for (std::int64_t pair = 0; pair < kPairs; ++pair) {
      for (std::int64_t i = 0; i < 2 * head_dim; ++i) {
        const std::int64_t key = start + 2 * pair + i % 2;
        const std::int64_t at = 2 * pair * head_dim + i;
        to[at] = key >= begin && key < end ? from[at] : BFloat16{};
      }
    }
  }
}

// sums[r][d ... d + 16) += p[r] . values
HWY_INLINE void multiply_values(const BFloat16* p, const BFloat16* values, std::int64_t head_dim,
                                float* sums) {
  _tile_loadd(0, sums, kSumStride * 4);
  for (std::int64_t key = 0; key < kBlockTokens; key += kTileInputs) {
    _tile_loadd(4, p + key, kProbabilityStride * 2);
    _tile_loadd(6, values + key * head_dim, head_dim * 4);
    _tile_dpbf16ps(0, 4, 6);
  }
  _tile_stored(0, sums, kSumStride * 4);
}

// The same for two matrix tiles of rows and twice as many dimensions.
HWY_INLINE void multiply_values_twice(const BFloat16* p, const BFloat16* values,
                                      std::int64_t head_dim, float* sums) {
  float* const next = sums + kTileSize * kSumStride;
  _tile_loadd(0, sums, kSumStride * 4);
  _tile_loadd(1, sums + kTileSize, kSumStride * 4);
  _tile_loadd(2, next, kSumStride * 4);
  _tile_loadd(3, next + kTileSize, kSumStride * 4);
  for (std::int64_t key = 0; key < kBlockTokens; key += kTileInputs) {
    const BFloat16* row = values + key * head_dim;
    _tile_loadd(4, p + key, kProbabilityStride * 2);
    _tile_loadd(6, row, head_dim * 4);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, row + 2 * kTileSize, head_dim * 4);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, p + kTileSize * kProbabilityStride + key, kProbabilityStride * 2);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kSumStride * 4);
  _tile_stored(1, sums + kTileSize, kSumStride * 4);
  _tile_stored(2, next, kSumStride * 4);
  _tile_stored(3, next + kTileSize, kSumStride * 4);
}

void value_block(BlockRows rows, std::int64_t head_dim, Work& work, float* sums) {
  for (std::int64_t row = rows.first; row < rows.end;) {
    const bool two = row + 2 * kTileSize <= rows.end;
    const BFloat16* p = work.p + row * kProbabilityStride;
    float* to = sums + row * kSumStride;
    for (std::int64_t d = 0; d < head_dim; d += two ? 2 * kTileSize : kTileSize) {
      const BFloat16* values = work.values + 2 * d;
      two ? multiply_values_twice(p, values, head_dim, to + d)
          : multiply_values(p, values, head_dim, to + d);
    }
    row += two ? 2 * kTileSize : kTileSize;
  }
}

// Scores become probabilities, and the sums so far are scaled to the new maxima.
void softmax_block(const AttentionTile& tile, std::int64_t block, BlockRows rows,
                   const SoftmaxState& state, Work& work) {
  const std::int64_t head_dim = tile.shape->head_dim;
  const float scale = tile.shape->scale * kLog2E;
  for (std::int64_t r = rows.first; r < rows.end; ++r) {
    BFloat16* p = work.p + r * kProbabilityStride;
    if (r >= tile.rows()) {
      std::fill_n(p, kBlockTokens, BFloat16{});
      continue;
    }
    const std::int64_t position = tile.position_of(r);
    const float keep = softmax_step(
        {work.scores + r * kScoreStride, scale, tile.first_key(position) - block,
         position + 1 - block},
        state, r, [p](std::int64_t key, Floats powers) HWY_ATTR { round_to(p + key, powers); });
    if (keep == 1.0F) continue;
    const Floats factor = hn::Set(FloatTag(), keep);
    float* sums = state.sums + r * kSumStride;
    for (std::int64_t d = 0; d < head_dim; d += kLanes)
      store(hn::Mul(load(sums + d), factor), sums + d);
  }
}

void run_block(const AttentionTile& tile, std::int64_t block, const SoftmaxState& state,
               Work& work) {
  const std::int64_t head_dim = tile.shape->head_dim;
  // Later positions see later keys: rows from the first that sees the block's first key, up to the
  // last whose window still reaches into it.
  const std::int64_t group = tile.group();
  const std::int64_t first_position = std::max(block, tile.first_position);
  std::int64_t end_position = tile.end_key();
  if (tile.shape->window > 0) {
    end_position = std::min(end_position, block + kBlockTokens - 1 + tile.shape->window);
  }
  BlockRows rows;
  rows.first = (first_position - tile.first_position) * group / kTileSize * kTileSize;
  rows.end = (end_position - tile.first_position) * group;
  if (rows.first >= rows.end) return;
  rows.end = (rows.end + kTileSize - 1) / kTileSize * kTileSize;

  const PageRange needed = pages_needed(tile, block);
  const std::byte* keys[kBlockPages];
  const std::byte* values[kBlockPages];
  for (std::int64_t i = 0; i < kBlockPages; ++i) {
    // Pages that no row needs are stood in for by one that is there: their scores are masked.
    const std::int64_t page = std::clamp(i, needed.begin, needed.end - 1);
    const std::int32_t id = tile.pages[block / kPageTokens + page];
    keys[i] = tile.layer->keys(id, tile.kv_head);
    values[i] = tile.layer->values(id, tile.kv_head);
  }
  before_tile_loads();
  score_block(keys, needed.end, rows, head_dim, work);
  gather_values(values, std::max<std::int64_t>(tile.first_key(tile.first_position) - block, 0),
                std::min(tile.end_key() - block, kBlockTokens), head_dim, work);
  softmax_block(tile, block, rows, state, work);
  before_tile_loads();
  value_block(rows, head_dim, work, state.sums);
}

void run_segment(const AttentionTile& tile, std::int64_t segment, const SoftmaxState& state,
                 Work& work) {
  const std::int64_t padded = (tile.rows() + kTileSize - 1) / kTileSize * kTileSize;
  std::fill_n(state.sums, padded * kSumStride, 0.0F);
  std::fill_n(state.maxima, tile.rows(), kNoMaximum);
  std::fill_n(state.weights, tile.rows(), 0.0F);
  const std::int64_t first =
      std::max(segment * kSegmentTokens, tile.first_key(tile.first_position));
  const std::int64_t end = std::min((segment + 1) * kSegmentTokens, tile.end_key());
  for (std::int64_t block = first / kBlockTokens * kBlockTokens; block < end;
       block += kBlockTokens) {
    run_block(tile, block, state, work);
    if (!tile.pauses_after(block)) continue;
    release_tiles();
    (*tile.pause)();
    configure_tiles();
  }
}

// Rows at another stride.
void copy_sums(const float* from, std::int64_t from_stride, std::int64_t rows,
               std::int64_t head_dim, float* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(from + r * from_stride, head_dim, to + r * to_stride);
}

void run_tile(const AttentionTile& tile) {
  const std::int64_t rows = tile.rows();
  const std::int64_t head_dim = tile.shape->head_dim;
  Work work;
  const SoftmaxState part{work.part_sums, work.part_rows[0], work.part_rows[1]};
  const SoftmaxState total{work.total_sums, work.total_rows[0], work.total_rows[1]};
  load_queries(tile, (rows + kTileSize - 1) / kTileSize * kTileSize, work);
  if (tile.partials == nullptr) clear(total, rows, head_dim);
  configure_tiles();
  for (std::int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) {
    run_segment(tile, segment, part, work);
    // Combined, rows are as close together as head_dim allows.
    if (tile.partials != nullptr) {
      float* out = tile.partial(segment);
      copy_sums(part.sums, kSumStride, rows, head_dim, out, head_dim);
      std::copy_n(part.maxima, rows, out + rows * head_dim);
      std::copy_n(part.weights, rows, out + rows * (head_dim + 1));
    } else {
      copy_sums(part.sums, kSumStride, rows, head_dim, part.sums, head_dim);
      fold(part, total, rows, head_dim);
    }
  }
  release_tiles();
  if (tile.partials == nullptr) write_rows<BFloat16>(tile, total);
}

void finish_tile(const AttentionTile& tile) {
  finish_partials<BFloat16>(tile);
}

}  // namespace attention_amx
}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET == HWY_AVX3

#if HWY_ONCE
namespace gimbal::kernels {

AttentionTileKernel attention_tile_kernel_amx() {
  return {&N_AVX3::attention_amx::run_tile, &N_AVX3::attention_amx::finish_tile};
}

}  // namespace gimbal::kernels
#endif
