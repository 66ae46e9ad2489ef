#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/qk_norm_rope.h"
#include "kernels/reference_access.h"

namespace gimbal::kernels {
namespace {

void normalize(std::span<double> values, std::span<const float> weight, double epsilon) {
  double sum = 0.0;
  for (const double x : values)
    sum += x * x;
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(values.size()) + epsilon);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] *= scale * weight[i];
}

void rotate(std::span<double> head, const RopeTable& table, std::int64_t position) {
  const auto half = static_cast<std::size_t>(table.rotary_dim() / 2);
  for (std::size_t i = 0; i < half; ++i) {
    const double cosine = table.cos(position)[i];
    const double sine = table.sin(position)[i];
    const double first = head[i];
    const double second = head[i + half];
    head[i] = first * cosine - second * sine;
    head[i + half] = second * cosine + first * sine;
  }
}

// Norm, clip and rotation of the q or the k columns of a row.
void process(const QkNormRope& what, std::span<const float> weight, std::int64_t position,
             std::span<double> values) {
  const auto head_dim = static_cast<std::size_t>(what.shape.head_dim);
  if (what.norm == QkNorm::kWholeProjection) normalize(values, weight, what.epsilon);
  for (std::size_t at = 0; at < values.size(); at += head_dim) {
    const std::span<double> head = values.subspan(at, head_dim);
    if (what.norm == QkNorm::kPerHead) normalize(head, weight, what.epsilon);
    if (what.clip) {
      for (double& x : head)
        x = std::clamp<double>(x, -*what.clip, *what.clip);
    }
    rotate(head, *what.table, position);
  }
}

}  // namespace

void qk_norm_rope_reference(const QkNormRope& what, std::span<const std::int32_t> positions,
                            tensor::MatrixView qkv) {
  const auto q_cols = static_cast<std::size_t>(what.shape.q_cols());
  const auto kv_cols = static_cast<std::size_t>(what.shape.kv_cols());
  std::vector<double> row(q_cols + 2 * kv_cols);
  const std::span<double> values(row);
  for (std::int64_t r = 0; r < qkv.rows; ++r) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = element(qkv, r, static_cast<std::int64_t>(i));
    }
    const std::int32_t position = positions[static_cast<std::size_t>(r)];
    process(what, what.q_weight, position, values.first(q_cols));
    process(what, what.k_weight, position, values.subspan(q_cols, kv_cols));
    if (what.clip) {
      for (double& x : values.last(kv_cols))
        x = std::clamp<double>(x, -*what.clip, *what.clip);
    }
    for (std::size_t i = 0; i < row.size(); ++i) {
      set_element(qkv, r, static_cast<std::int64_t>(i), static_cast<float>(row[i]));
    }
  }
}

}  // namespace gimbal::kernels
