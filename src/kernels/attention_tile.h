#pragma once

#include <cstddef>
#include <cstdint>

#include "base/function_ref.h"
#include "kernels/attention.h"

namespace gimbal::kernels {

inline constexpr std::int64_t kBlockTokens = 64;     // keys per step of the online softmax
inline constexpr std::int64_t kSegmentTokens = 512;  // keys per softmax that starts afresh
inline constexpr std::int64_t kTileRows = 96;  // most query rows (positions x heads) of a tile
inline constexpr std::int64_t kBlockPages = kBlockTokens / kPageTokens;

// The unit of work of paged_attention: consecutive query positions of one sequence, with all the
// query heads that share one kv head, against segments [first_segment, end_segment) of the
// sequence's keys. Row r is position first_position + r / group, head r % group of the group.
struct AttentionTile {
  const AttentionShape* shape = nullptr;
  const KvLayer* layer = nullptr;
  const std::byte* q = nullptr;  // the first position's first head of the group
  std::byte* out = nullptr;      // likewise
  std::int64_t q_stride = 0;     // elements from one position to the next
  std::int64_t out_stride = 0;
  const std::int32_t* pages = nullptr;
  std::int64_t kv_head = 0;
  std::int64_t positions = 0;
  std::int64_t first_position = 0;
  std::int64_t first_segment = 0;
  std::int64_t end_segment = 0;
  // Where each segment's unnormalized result goes when other tiles do the other segments (see
  // partial_floats); null: this tile does all segments and writes `out`.
  float* partials = nullptr;
  // Called between blocks, each time after so many; null: never.
  const FunctionRef<void()>* pause = nullptr;
  std::int64_t pause_blocks = 1;

  [[nodiscard]] std::int64_t group() const { return shape->heads / shape->kv_heads; }
  [[nodiscard]] std::int64_t rows() const { return positions * group(); }
  [[nodiscard]] std::int64_t position_of(std::int64_t row) const {
    return first_position + row / group();
  }
  // The first key that a query at `position` sees; the last is its own.
  [[nodiscard]] std::int64_t first_key(std::int64_t position) const {
    const std::int64_t outside = shape->window > 0 ? position + 1 - shape->window : 0;
    return outside > 0 ? outside : 0;
  }
  [[nodiscard]] std::int64_t end_key() const { return first_position + positions; }
  // A segment's part of `partials`: sums [rows, head_dim], then maxima [rows], then weights [rows].
  [[nodiscard]] std::int64_t partial_floats() const { return rows() * (shape->head_dim + 2); }
  // Whether to pause after the block that begins with this key.
  [[nodiscard]] bool pauses_after(std::int64_t block) const {
    return pause != nullptr && (block / kBlockTokens + 1) % pause_blocks == 0 &&
           block + kBlockTokens < end_key();
  }
  [[nodiscard]] float* partial(std::int64_t segment) const {
    return partials + (segment - first_segment) * partial_floats();
  }
};

// The functions of one level.
struct AttentionTileKernel {
  void (*run)(const AttentionTile& tile) = nullptr;
  // Combines the partials of all segments of `tile`, in order, and writes `out`.
  void (*finish)(const AttentionTile& tile) = nullptr;
};

// Requires: isa is not kReference.
[[nodiscard]] AttentionTileKernel attention_tile_kernel(Isa isa, tensor::DType dtype);
// For bf16 and kAmxBf16. Requires: head_dim is a multiple of 32.
[[nodiscard]] AttentionTileKernel attention_tile_kernel_amx();

}  // namespace gimbal::kernels
