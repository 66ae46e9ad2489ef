// Attention tiles by float multiply-add: every level for f32, and bf16 where there is no bf16 dot
// product. A row's score is one chain of multiply-adds over the head's dimensions, and an output's
// sum one chain over the block's keys, whatever the tile's shape.
#include <type_traits>

#include "kernels/attention_tile.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_tile_simd.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>

#include "kernels/attention_products-inl.h"
#include "kernels/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {
namespace attention_simd {

// Rows of a strip: 6 x 2 vectors of sums fill the 16 registers of AVX2; taking bf16 apart needs a
// few.
template <class T>
constexpr int kStripRows = sizeof(T) == 2 ? 4 : 6;

// Floats from one query row to the next: a constant, so that a strip needs one pointer.
constexpr std::int64_t kQueryStride = kMaxHeadDim + 16;

// The keys and values of a block, page by page, in the layout of KvLayout for T.
template <class T>
struct BlockPanels {
  const T* keys[kBlockPages];
  const T* values[kBlockPages];
};

// The keys that each row of a tile sees: [begin, end).
struct VisibleKeys {
  std::int64_t begin[kTileRows];
  std::int64_t end[kTileRows];
};

// Elements between a panel's neighbouring columns: pairs lie side by side.
template <class T>
constexpr std::int64_t kColumn = sizeof(T) == 2 ? 2 : 1;

// scores[r][first ... first + kVectors * kLanes) = q[r] . keys
template <int kRows, int kVectors, class T>
HWY_INLINE void multiply_keys(const float* q, std::int64_t head_dim, const BlockPanels<T>& block,
                              std::int64_t first, float* scores) {
  Floats sum[kRows][kVectors];
  const T* from[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t token = first + v * kLanes;
    from[v] = block.keys[token / kPageTokens] + kColumn<T> * (token % kPageTokens);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r)
      sum[r][v] = hn::Zero(FloatTag());
  }
  multiply_panel<kRows, kVectors>(q, kQueryStride, 0, head_dim, from, kPageTokens, sum);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
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
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const Floats scale = hn::Set(FloatTag(), keep[r]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = hn::Mul(load(sums + r * head_dim + at + v * kLanes), scale);
    }
  }
  for (std::int64_t page = begin / kPageTokens; page * kPageTokens < end; ++page) {
    const std::int64_t start = page * kPageTokens;
    const T* from[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      from[v] = block.values[page] + kColumn<T> * (at + v * kLanes);
    multiply_panel<kRows, kVectors>(p + start, kBlockTokens,
                                    std::max(begin - start, std::int64_t{0}),
                                    std::min(end - start, kPageTokens), from, head_dim, sum);
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      store(sum[r][v], sums + r * head_dim + at + v * kLanes);
    }
  }
}

// What a tile's rows have against one block, between its two halves: scores, then values. Halves,
// so that the keys stay in the first cache level for all rows, and after them the values.
struct BlockState {
  alignas(64) float scores[kTileRows * kBlockTokens];  // then probabilities
  float keep[kTileRows];                               // what the sums are multiplied with
};

// A strip is a few neighbouring rows of the tile.
template <class T>
struct Strip {
  const VisibleKeys* visible;
  const BlockPanels<T>* panels;
  const BlockPanels<T>* next;  // the block after, to be fetched meanwhile; null: none
  std::int64_t head_dim;
  float scale;         // of scores, so that the softmax may use powers of 2
  std::int64_t row;    // the first
  std::int64_t block;  // the position of the block's first key
  std::int64_t begin;  // keys of the block that any of the rows sees
  std::int64_t end;
};

template <class T>
HWY_INLINE void fetch_panel(const T* panel, std::int64_t head_dim) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (std::int64_t i = 0; i < head_dim * kPageTokens; i += kLine)
    hwy::Prefetch(panel + i);
}

template <int kRows>
constexpr int kStripVectors = kRows <= 2 || kLanes == 16 ? 4 : 2;

template <int kRows, class T>
HWY_NOINLINE void score_strip(const Strip<T>& strip, const float* q, const SoftmaxState& state,
                              BlockState& block) {
  constexpr int kVectors = kStripVectors<kRows>;
  constexpr std::int64_t kStep = kVectors * kLanes;
  float* scores = block.scores + strip.row * kBlockTokens;
  for (std::int64_t at = strip.begin / kStep * kStep; at < strip.end; at += kStep) {
    if (strip.next != nullptr) {
      for (std::int64_t page = at / kPageTokens; page < (at + kStep) / kPageTokens; ++page) {
        fetch_panel(strip.next->keys[page], strip.head_dim);
      }
    }
    multiply_keys<kRows, kVectors>(q + strip.row * kQueryStride, strip.head_dim, *strip.panels, at,
                                   scores);
  }
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t row = strip.row + r;
    float* const p = scores + r * kBlockTokens;
    block.keep[row] = softmax_step(
        {p, strip.scale, strip.visible->begin[row] - strip.block,
         strip.visible->end[row] - strip.block},
        state, row, [p](std::int64_t key, Floats powers) HWY_ATTR { store(powers, p + key); });
  }
}

template <int kRows, class T>
HWY_NOINLINE void value_strip(const Strip<T>& strip, const SoftmaxState& state,
                              const BlockState& block) {
  constexpr int kVectors = kStripVectors<kRows>;
  constexpr std::int64_t kStep = kVectors * kLanes;
  const std::int64_t head_dim = strip.head_dim;
  const float* p = block.scores + strip.row * kBlockTokens;
  const float* keep = block.keep + strip.row;
  float* sums = state.sums + strip.row * head_dim;
  if (strip.next != nullptr) {
    for (const T* values : strip.next->values)
      fetch_panel(values, head_dim);
  }
  std::int64_t at = 0;
  for (; at + kStep <= head_dim; at += kStep) {
    multiply_values<kRows, kVectors>(p, keep, *strip.panels, strip.begin, strip.end, head_dim, at,
                                     sums);
  }
  for (; at < head_dim; at += kLanes) {
    multiply_values<kRows, 1>(p, keep, *strip.panels, strip.begin, strip.end, head_dim, at, sums);
  }
}

// Calls body with the number of rows as a constant.
template <class T, class Body>
HWY_INLINE void with_rows(std::int64_t rows, const Body& body) {
  switch (rows) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 3:
      return body(std::integral_constant<int, 3>());
    case 4:
      return body(std::integral_constant<int, 4>());
    default:
      break;
  }
  if constexpr (kStripRows < T >> 4) {
    return rows == 5 ? body(std::integral_constant<int, 5>())
                     : body(std::integral_constant<int, 6>());
  }
}

// All rows of the tile against one block.
template <class T>
HWY_INLINE void run_block(const VisibleKeys& visible, std::int64_t rows, Strip<T> strip,
                          const float* q, const SoftmaxState& state) {
  BlockState block;
  const std::int64_t strips = (rows + kStripRows<T> - 1) / kStripRows<T>;
  for (const bool values : {false, true}) {
    const BlockPanels<T>* next = strip.next;
    for (std::int64_t s = 0; s < strips; ++s) {
      strip.row = rows * s / strips;
      const std::int64_t end_row = rows * (s + 1) / strips;
      strip.begin = std::max<std::int64_t>(visible.begin[strip.row] - strip.block, 0);
      strip.end = std::min(visible.end[end_row - 1] - strip.block, kBlockTokens);
      if (strip.begin >= strip.end) continue;  // no row sees a key: the step would change nothing
      with_rows<T>(end_row - strip.row, [&](auto count) {
        constexpr int kRows = decltype(count)::value;
        values ? value_strip<kRows>(strip, state, block)
               : score_strip<kRows>(strip, q, state, block);
      });
      strip.next = nullptr;
    }
    strip.next = next;
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

HWY_INLINE BlockPanels<float> widen_block(const AttentionTile& tile, std::int64_t block,
                                          const BlockPanels<BFloat16>& narrow, WideBlock& wide) {
  const PageRange range = pages_needed(tile, block);
  const std::int64_t head_dim = tile.shape->head_dim;
  BlockPanels<float> panels;
  for (std::int64_t i = 0; i < kBlockPages; ++i) {
    const std::int64_t page = std::clamp(i, range.begin, range.end - 1);
    float* keys = wide.keys + page * kPageTokens * head_dim;
    float* values = wide.values + page * kPageTokens * head_dim;
    if (page == i) {
      widen_panel(narrow.keys[page], kPageTokens, head_dim, keys);
      widen_panel(narrow.values[page], head_dim, kPageTokens, values);
    }
    panels.keys[i] = keys;
    panels.values[i] = values;
  }
  return panels;
}

// The queries as floats.
template <class T>
HWY_INLINE void load_queries(const AttentionTile& tile, float* q) {
  const std::int64_t head_dim = tile.shape->head_dim;
  const std::int64_t group = tile.group();
  for (std::int64_t r = 0; r < tile.rows(); ++r) {
    const T* from =
        reinterpret_cast<const T*>(tile.q) + (r / group) * tile.q_stride + (r % group) * head_dim;
    for (std::int64_t d = 0; d < head_dim; d += kLanes) {
      store(load(from + d), q + r * kQueryStride + d);
    }
  }
}

template <class T>
HWY_INLINE void run_segment(const AttentionTile& tile, std::int64_t segment,
                            const VisibleKeys& visible, const float* q, const SoftmaxState& state) {
  const std::int64_t rows = tile.rows();
  const std::int64_t head_dim = tile.shape->head_dim;
  const float scale = tile.shape->scale * kLog2E;
  clear(state, rows, head_dim);
  const std::int64_t first = std::max(segment * kSegmentTokens, visible.begin[0]);
  const std::int64_t end = std::min((segment + 1) * kSegmentTokens, tile.end_key());
  for (std::int64_t block = first / kBlockTokens * kBlockTokens; block < end;
       block += kBlockTokens) {
    const BlockPanels<T> panels = panels_of<T>(tile, block);
    if constexpr (sizeof(T) == 2) {
      // Few rows take the cache as it is; many share one widening.
      if (rows > 2 * kStripRows<T>) {
        WideBlock wide;
        const BlockPanels<float> floats = widen_block(tile, block, panels, wide);
        run_block<float>(visible, rows,
                         {&visible, &floats, nullptr, head_dim, scale, 0, block, 0, 0}, q, state);
        if (tile.pauses_after(block)) (*tile.pause)();
        continue;
      }
    }
    // Pages lie apart, so the processor's own prefetching starts anew in each.
    const bool more = block + kBlockTokens < tile.end_key();
    const BlockPanels<T> next = more ? panels_of<T>(tile, block + kBlockTokens) : panels;
    run_block<T>(visible, rows,
                 {&visible, &panels, more ? &next : nullptr, head_dim, scale, 0, block, 0, 0}, q,
                 state);
    if (tile.pauses_after(block)) (*tile.pause)();
  }
}

template <class T>
void run_tile(const AttentionTile& tile) {
  const std::int64_t rows = tile.rows();
  const std::int64_t head_dim = tile.shape->head_dim;
  alignas(64) float q[kTileRows * kQueryStride];
  alignas(64) float part_sums[kTileRows * kMaxHeadDim];
  alignas(64) float total_sums[kTileRows * kMaxHeadDim];
  float part_rows[2][kTileRows];
  float total_rows[2][kTileRows];
  const SoftmaxState total{total_sums, total_rows[0], total_rows[1]};
  VisibleKeys visible;
  for (std::int64_t r = 0; r < rows; ++r) {
    visible.begin[r] = tile.first_key(tile.position_of(r));
    visible.end[r] = tile.position_of(r) + 1;
  }
  load_queries<T>(tile, q);
  if (tile.partials == nullptr) clear(total, rows, head_dim);
  for (std::int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) {
    if (tile.partials != nullptr) {
      float* part = tile.partial(segment);
      run_segment<T>(tile, segment, visible, q,
                     {part, part + rows * head_dim, part + rows * (head_dim + 1)});
    } else {
      const SoftmaxState part{part_sums, part_rows[0], part_rows[1]};
      run_segment<T>(tile, segment, visible, q, part);
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
