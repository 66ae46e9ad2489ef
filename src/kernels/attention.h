#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/kernel_context.h"
#include "kernels/kv_cache.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// Query heads that may share one kv head.
inline constexpr std::int64_t kMaxHeadsPerKvHead = 96;

struct AttentionShape {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // divides heads: query heads [g * heads/kv_heads, …) share kv head g
  std::int64_t head_dim = 0;  // a multiple of 16, <= kMaxHeadDim
  float scale = 1.0F;         // of q·k, before the softmax
  std::int64_t window = 0;    // > 0: a key is visible iff query position - key position < window
};

// Memory that paged_attention reuses between calls. One thread at a time; grows to what the largest
// call needed.
class AttentionWorkspace {
 public:
  AttentionWorkspace();
  ~AttentionWorkspace();
  AttentionWorkspace(AttentionWorkspace&&) noexcept;
  AttentionWorkspace& operator=(AttentionWorkspace&&) noexcept;

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// Causal attention of a ragged batch over paged keys and values, which hold the rows' own tokens
// already (write_kv). Any mix of prefill chunks and decodes. Shapes: q, out [rows, heads *
// head_dim], both in the layout's dtype; out may not be q.
//
// Batch-invariant: keys are taken in blocks of 64 and segments of 512, both aligned to the position
// in the sequence; within a segment the softmax runs online over its blocks in order, and segments
// are combined in order. Neither chunking, prefix hits, other sequences nor threads change a bit. A
// key that a query may not see contributes nothing, whatever its slot holds, but for keys of rows
// of the same call, whose values must be finite. Sums are float. With kAmxBf16 and bf16 heads of a
// multiple of 32 dimensions probabilities are rounded to bf16, in every call.
void paged_attention(const KernelContext& context, const AttentionShape& shape,
                     tensor::ConstMatrixView q, std::span<const AttentionSequence> sequences,
                     const KvLayer& layer, AttentionWorkspace& workspace, tensor::MatrixView out);
// The textbook formula in double precision.
void paged_attention_reference(const AttentionShape& shape, tensor::ConstMatrixView q,
                               std::span<const AttentionSequence> sequences, const KvLayer& layer,
                               tensor::MatrixView out);

}  // namespace gimbal::kernels
