#include "base/check.h"
#include "kernels/qk_norm_rope.h"
#include "kernels/row_chunks.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/qk_norm_rope_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/rms_norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

HWY_INLINE Floats clamp(Floats x, Floats limit) {
  return hn::Min(hn::Max(x, hn::Neg(limit)), limit);
}

// x[i], x[i + half] rotated by angle i, for lanes [i, i + count).
template <class T>
HWY_INLINE void rotate_pair(Floats first, Floats second, Floats cosine, Floats sine,
                            std::int64_t count, T* low, T* high) {
  const Floats turned = hn::MulSub(first, cosine, hn::Mul(second, sine));
  const Floats other = hn::MulAdd(second, cosine, hn::Mul(first, sine));
  if (count >= kLanes) {
    store(turned, low);
    store(other, high);
  } else {
    store_first(turned, low, count);
    store_first(other, high, count);
  }
}

template <class T>
HWY_INLINE void rotate_head(const float* values, std::int64_t head_dim, std::int64_t half,
                            const float* cosines, const float* sines, T* out) {
  std::int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    rotate_pair(load(values + i), load(values + half + i), load(cosines + i), load(sines + i),
                kLanes, out + i, out + half + i);
  }
  if (const std::int64_t rest = half - i; rest > 0) {
    rotate_pair(load_first(values + i, rest), load_first(values + half + i, rest),
                load_first(cosines + i, rest), load_first(sines + i, rest), rest, out + i,
                out + half + i);
  }
  for (i = 2 * half; i < head_dim; i += kLanes) {
    const std::int64_t rest = head_dim - i;
    if (rest >= kLanes) {
      store(load(values + i), out + i);
    } else {
      store_first(load(values + i), out + i, rest);
    }
  }
}

// The q or the k columns of a row: `heads` heads from x on.
template <class T>
HWY_INLINE void process_heads(const QkNormRope& what, const float* weight, std::int64_t heads,
                              std::int32_t position, T* x) {
  const std::int64_t head_dim = what.shape.head_dim;
  const Floats limit = hn::Set(FloatTag(), what.clip.value_or(0.0F));
  alignas(64) float values[kMaxHeadDim + kLanes];
  float scale = 1.0F;
  if (what.norm == QkNorm::kWholeProjection) scale = rms_scale(x, heads * head_dim, what.epsilon);
  for (std::int64_t h = 0; h < heads; ++h, x += head_dim) {
    if (what.norm == QkNorm::kPerHead) scale = rms_scale(x, head_dim, what.epsilon);
    const float* weights = what.norm == QkNorm::kWholeProjection ? weight + h * head_dim : weight;
    for (std::int64_t i = 0; i < head_dim; i += kLanes) {
      Floats value = load(x + i);
      if (what.norm != QkNorm::kNone) {
        value = hn::Mul(hn::Mul(value, hn::Set(FloatTag(), scale)), load(weights + i));
      }
      store(what.clip ? clamp(value, limit) : value, values + i);
    }
    rotate_head(values, head_dim, what.table->rotary_dim() / 2, what.table->cos(position),
                what.table->sin(position), x);
  }
}

template <class T>
void qk_norm_rope_typed(const QkNormRope& what, const std::int32_t* positions,
                        const tensor::MatrixView& qkv) {
  const QkvShape& shape = what.shape;
  for (std::int64_t r = 0; r < qkv.rows; ++r) {
    T* row = qkv.row_as<T>(r);
    process_heads(what, what.q_weight.data(), shape.heads, positions[r], row);
    process_heads(what, what.k_weight.data(), shape.kv_heads, positions[r], row + shape.q_cols());
    if (!what.clip) continue;
    T* v = row + shape.q_cols() + shape.kv_cols();
    const Floats limit = hn::Set(FloatTag(), *what.clip);
    for (std::int64_t i = 0; i < shape.kv_cols(); i += kLanes) {
      store(clamp(load(v + i), limit), v + i);
    }
  }
}

void qk_norm_rope_rows(const QkNormRope& what, const std::int32_t* positions,
                       const tensor::MatrixView& qkv) {
  if (qkv.dtype == tensor::DType::kBF16) {
    qk_norm_rope_typed<tensor::BFloat16>(what, positions, qkv);
  } else {
    qk_norm_rope_typed<float>(what, positions, qkv);
  }
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gimbal::kernels {

void qk_norm_rope(const KernelContext& context, const QkNormRope& what,
                  std::span<const std::int32_t> positions, tensor::MatrixView qkv) {
  const QkvShape& shape = what.shape;
  GIMBAL_CHECK(what.table != nullptr && what.table->rotary_dim() <= shape.head_dim);
  GIMBAL_CHECK(shape.head_dim <= kMaxHeadDim && shape.head_dim % 16 == 0);
  GIMBAL_CHECK(qkv.cols == shape.cols());
  GIMBAL_CHECK(static_cast<std::int64_t>(positions.size()) == qkv.rows);
  const bool whole = what.norm == QkNorm::kWholeProjection;
  if (what.norm != QkNorm::kNone) {
    const auto q_size = static_cast<std::int64_t>(what.q_weight.size());
    const auto k_size = static_cast<std::int64_t>(what.k_weight.size());
    GIMBAL_CHECK(q_size == (whole ? shape.q_cols() : shape.head_dim));
    GIMBAL_CHECK(k_size == (whole ? shape.kv_cols() : shape.head_dim));
  }
  if (context.isa == Isa::kReference) return qk_norm_rope_reference(what, positions, qkv);
  const auto rows = GIMBAL_SELECT_SIMD(context.isa, qk_norm_rope_rows);
  for_row_chunks(context, qkv.rows, grain_of(qkv.cols), [&](std::int64_t begin, std::int64_t end) {
    rows(what, positions.data() + begin, qkv.rows_at(begin, end - begin));
  });
}

}  // namespace gimbal::kernels
#endif
