// The softmax state of a tile's rows and the pieces of attention that do not depend on how products
// are made. Included once per target.
#if defined(GIMBAL_KERNELS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GIMBAL_KERNELS_ATTENTION_TILE_INL_H_
#undef GIMBAL_KERNELS_ATTENTION_TILE_INL_H_
#else
#define GIMBAL_KERNELS_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention_tile.h"
#include "kernels/qk_norm_rope.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

// Stands for "no key seen yet": far below any score, but finite, so that differences are defined.
inline constexpr float kNoMaximum = -1e30F;

// Unnormalized attention: sums of exp2(score - maximum) * value, and of exp2(score - maximum).
struct SoftmaxState {
  float* sums;     // [rows, head_dim]
  float* maxima;   // [rows]
  float* weights;  // [rows]
};

HWY_INLINE void clear(const SoftmaxState& state, std::int64_t rows, std::int64_t head_dim) {
  std::fill_n(state.sums, rows * head_dim, 0.0F);
  std::fill_n(state.maxima, rows, kNoMaximum);
  std::fill_n(state.weights, rows, 0.0F);
}

HWY_INLINE float exp2_scalar(float x) {
  return hn::GetLane(exp2(hn::Set(FloatTag(), x)));
}

// total := total combined with part. Exactly total where part has seen no key, and the reverse.
HWY_INLINE void fold(const SoftmaxState& part, const SoftmaxState& total, std::int64_t rows,
                     std::int64_t head_dim) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float maximum = std::max(total.maxima[r], part.maxima[r]);
    const Floats keep = hn::Set(FloatTag(), exp2_scalar(total.maxima[r] - maximum));
    const Floats take = hn::Set(FloatTag(), exp2_scalar(part.maxima[r] - maximum));
    float* sums = total.sums + r * head_dim;
    const float* more = part.sums + r * head_dim;
    for (std::int64_t d = 0; d < head_dim; d += kLanes) {
      store(hn::MulAdd(load(more + d), take, hn::Mul(load(sums + d), keep)), sums + d);
    }
    total.weights[r] = total.weights[r] * hn::GetLane(keep) + part.weights[r] * hn::GetLane(take);
    total.maxima[r] = maximum;
  }
}

// out = sums / weight. Adding zero makes +0 of -0, whose sign may come from skipped work.
template <class T>
HWY_INLINE void write_rows(const AttentionTile& tile, const SoftmaxState& state) {
  const std::int64_t head_dim = tile.shape->head_dim;
  const std::int64_t group = tile.group();
  for (std::int64_t r = 0; r < tile.rows(); ++r) {
    T* out =
        reinterpret_cast<T*>(tile.out) + (r / group) * tile.out_stride + (r % group) * head_dim;
    const Floats inverse = hn::Set(FloatTag(), 1.0F / state.weights[r]);
    const float* sums = state.sums + r * head_dim;
    for (std::int64_t d = 0; d < head_dim; d += kLanes) {
      const Floats value = hn::Mul(load(sums + d), inverse);
      store(hn::Add(value, hn::Zero(FloatTag())), out + d);
    }
  }
}

// A row's scores of one block of 64 keys, of which [begin, end) are visible.
struct BlockScores {
  const float* scores;
  float scale;  // > 0; scores times this are exponents of 2
  std::int64_t begin;
  std::int64_t end;
};

// One step of the online softmax of row r of `state`: scores become powers of 2, exactly 0 where
// not visible, and are given to emit(first lane, powers). Returns what the row's sums must be
// multiplied with.
template <class Emit>
HWY_INLINE float softmax_step(const BlockScores& block, const SoftmaxState& state, std::int64_t r,
                              const Emit& emit) {
  constexpr int kVectors = static_cast<int>(kBlockTokens / kLanes);
  const FloatTag f;
  Floats score[kVectors];
  Floats highest = hn::Set(f, kNoMaximum);
  for (int v = 0; v < kVectors; ++v)
    score[v] = load(block.scores + v * kLanes);
  if (block.begin > 0 || block.end < kBlockTokens) {
    const auto first = hn::Set(f, static_cast<float>(block.begin));
    const auto last = hn::Set(f, static_cast<float>(block.end));
    const auto hidden = hn::Set(f, -std::numeric_limits<float>::infinity());
    for (int v = 0; v < kVectors; ++v) {
      const auto index = hn::Iota(f, static_cast<float>(v * kLanes));
      const auto visible = hn::And(hn::Ge(index, first), hn::Lt(index, last));
      score[v] = hn::IfThenElse(visible, score[v], hidden);
    }
  }
  for (int v = 0; v < kVectors; ++v)
    highest = hn::Max(highest, score[v]);
  const float maximum = state.maxima[r];
  const float updated = std::max(maximum, max_lanes(highest) * block.scale);
  const Floats scales = hn::Set(f, block.scale);
  const Floats subtract = hn::Set(f, updated);
  Floats sum = hn::Zero(f);
  for (int v = 0; v < kVectors; ++v) {
    const Floats p = exp2_below(hn::MulSub(score[v], scales, subtract));
    sum = hn::Add(sum, p);
    emit(v * kLanes, p);
  }
  // Once many keys are seen, the maximum seldom moves: 2^0 is 1 without a computation.
  const float keep = updated == maximum ? 1.0F : exp2_scalar(maximum - updated);
  state.weights[r] = state.weights[r] * keep + sum_lanes(sum);
  state.maxima[r] = updated;
  return keep;
}

// The pages of a block that the tile needs: [begin, end) of 0 .. kBlockPages.
struct PageRange {
  std::int64_t begin;
  std::int64_t end;
};
HWY_INLINE PageRange pages_needed(const AttentionTile& tile, std::int64_t block) {
  const std::int64_t first = std::max(block, tile.first_key(tile.first_position)) - block;
  const std::int64_t end = std::min(kBlockTokens, tile.end_key() - block);
  return {first / kPageTokens, (end + kPageTokens - 1) / kPageTokens};
}

template <class T>
HWY_INLINE void finish_partials(const AttentionTile& tile) {
  const std::int64_t rows = tile.rows();
  const std::int64_t head_dim = tile.shape->head_dim;
  alignas(64) float sums[kTileRows * kMaxHeadDim];
  float maxima[kTileRows];
  float weights[kTileRows];
  const SoftmaxState total{sums, maxima, weights};
  clear(total, rows, head_dim);
  for (std::int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) {
    float* part = tile.partial(segment);
    fold({part, part + rows * head_dim, part + rows * (head_dim + 1)}, total, rows, head_dim);
  }
  write_rows<T>(tile, total);
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
