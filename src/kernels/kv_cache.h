#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernel_context.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

inline constexpr std::int64_t kPageTokens = 16;

// How one layer's keys and values of one page (16 tokens) lie in memory. For each kv head in turn,
// a panel of keys, then a panel of values. Element (token t of the page, dimension d) stands at
//   f32:  keys [head_dim][16]         values [16][head_dim]
//   bf16: keys [head_dim / 2][16][2]  values [16 / 2][head_dim][2]
// so that a query times 16 keys, and 16 probabilities times the values, run along lanes in every
// instruction set, and bf16 pairs are what the bf16 dot-product instructions take.
struct KvLayout {
  tensor::DType dtype = tensor::DType::kBF16;  // bf16 or f32
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  // a multiple of 16

  [[nodiscard]] std::int64_t panel_elements() const { return head_dim * kPageTokens; }
  [[nodiscard]] std::int64_t panel_bytes() const {
    return panel_elements() * static_cast<std::int64_t>(tensor::size_of(dtype));
  }
  // Keys and values of one head.
  [[nodiscard]] std::int64_t head_bytes() const { return 2 * panel_bytes(); }
  // One page of one layer; a multiple of 64.
  [[nodiscard]] std::int64_t page_bytes() const { return kv_heads * head_bytes(); }

  [[nodiscard]] std::int64_t key_index(std::int64_t token, std::int64_t dim) const {
    return dtype == tensor::DType::kBF16 ? ((dim / 2) * kPageTokens + token) * 2 + dim % 2
                                         : dim * kPageTokens + token;
  }
  [[nodiscard]] std::int64_t value_index(std::int64_t token, std::int64_t dim) const {
    return dtype == tensor::DType::kBF16 ? ((token / 2) * head_dim + dim) * 2 + token % 2
                                         : token * head_dim + dim;
  }
};

// One layer's part of the page pool. Page p starts at pages + p * page_stride bytes; both are
// multiples of 64. Slots that nothing was written to may hold anything, NaN included.
struct KvLayer {
  std::byte* pages = nullptr;
  std::int64_t page_stride = 0;
  KvLayout layout;

  [[nodiscard]] std::byte* keys(std::int64_t page, std::int64_t kv_head) const {
    return pages + page * page_stride + kv_head * layout.head_bytes();
  }
  [[nodiscard]] std::byte* values(std::int64_t page, std::int64_t kv_head) const {
    return keys(page, kv_head) + layout.panel_bytes();
  }
};

// A sequence's part of a ragged batch: rows [first_row, first_row + rows) of every matrix are its
// tokens at positions [position, position + rows). `pages` is its block table: entry i holds tokens
// [16 i, 16 i + 16). Entries are read only for positions the call touches.
struct AttentionSequence {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t position = 0;
  const std::int32_t* pages = nullptr;
};

// Stores the keys and values of every sequence's rows in their pages.
// Shapes: k, v [rows, kv_heads * head_dim], in the layout's dtype.
// Requires: no two sequences write the same slot.
void write_kv(const KernelContext& context, tensor::ConstMatrixView k, tensor::ConstMatrixView v,
              std::span<const AttentionSequence> sequences, const KvLayer& layer);

}  // namespace gimbal::kernels
