#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/kernel_context.h"
#include "kernels/rope.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

// What the columns of a fused projection row are: heads * head_dim of q, then kv_heads * head_dim
// of k, then as many of v.
struct QkvShape {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;

  [[nodiscard]] std::int64_t q_cols() const { return heads * head_dim; }
  [[nodiscard]] std::int64_t kv_cols() const { return kv_heads * head_dim; }
  [[nodiscard]] std::int64_t cols() const { return q_cols() + 2 * kv_cols(); }
};

enum class QkNorm {
  kNone,
  kPerHead,          // RMS norm of each head, weights [head_dim] (Qwen3)
  kWholeProjection,  // RMS norm over all heads of q, and of k; weights [q_cols], [kv_cols] (OLMoE)
};

struct QkNormRope {
  QkvShape shape;
  QkNorm norm = QkNorm::kNone;
  std::span<const float> q_weight = {};
  std::span<const float> k_weight = {};
  float epsilon = 0.0F;
  std::optional<float> clip = {};  // clamps q, k and v to [-clip, clip] after the norm (OLMoE)
  const RopeTable* table = nullptr;
};

// In one pass over each row, in place: norm of q and k, clip of q, k and v, then the rotary
// embedding of q and k ("rotate half": dimension i pairs with i + rotary_dim / 2; dimensions from
// rotary_dim on stay). Computed in float and rounded once. Shapes: qkv [rows, shape.cols()] (bf16
// or f32); positions [rows], each in the table. Requires: head_dim <= kMaxHeadDim and a multiple of
// 16, rotary_dim <= head_dim.
void qk_norm_rope(const KernelContext& context, const QkNormRope& what,
                  std::span<const std::int32_t> positions, tensor::MatrixView qkv);
void qk_norm_rope_reference(const QkNormRope& what, std::span<const std::int32_t> positions,
                            tensor::MatrixView qkv);

inline constexpr std::int64_t kMaxHeadDim = 256;

}  // namespace gimbal::kernels
