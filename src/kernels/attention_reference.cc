#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention.h"
#include "kernels/reference_access.h"

namespace gimbal::kernels {
namespace {

float cached(const KvLayer& layer, const std::byte* panel, std::int64_t index) {
  return layer.layout.dtype == tensor::DType::kBF16
             ? tensor::to_float(reinterpret_cast<const tensor::BFloat16*>(panel)[index])
             : reinterpret_cast<const float*>(panel)[index];
}

// One query head of one row.
void attend(const AttentionShape& shape, tensor::ConstMatrixView q, const KvLayer& layer,
            const AttentionSequence& sequence, std::int64_t row, std::int64_t head,
            tensor::MatrixView out) {
  const std::int64_t position = sequence.position + (row - sequence.first_row);
  const std::int64_t kv_head = head / (shape.heads / shape.kv_heads);
  const std::int64_t first =
      shape.window > 0 ? std::max<std::int64_t>(0, position + 1 - shape.window) : 0;
  std::vector<double> scores;
  for (std::int64_t key = first; key <= position; ++key) {
    const std::byte* panel = layer.keys(sequence.pages[key / kPageTokens], kv_head);
    double score = 0.0;
    for (std::int64_t d = 0; d < shape.head_dim; ++d) {
      score += static_cast<double>(element(q, row, head * shape.head_dim + d)) *
               cached(layer, panel, layer.layout.key_index(key % kPageTokens, d));
    }
    scores.push_back(score * shape.scale);
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (double& score : scores)
    sum += score = std::exp(score - highest);
  for (std::int64_t d = 0; d < shape.head_dim; ++d) {
    double value = 0.0;
    for (std::int64_t key = first; key <= position; ++key) {
      const std::byte* panel = layer.values(sequence.pages[key / kPageTokens], kv_head);
      value += scores[static_cast<std::size_t>(key - first)] *
               cached(layer, panel, layer.layout.value_index(key % kPageTokens, d));
    }
    set_element(out, row, head * shape.head_dim + d, static_cast<float>(value / sum));
  }
}

}  // namespace

void paged_attention_reference(const AttentionShape& shape, tensor::ConstMatrixView q,
                               std::span<const AttentionSequence> sequences, const KvLayer& layer,
                               tensor::MatrixView out) {
  for (const AttentionSequence& sequence : sequences) {
    for (std::int64_t row = 0; row < sequence.rows; ++row) {
      for (std::int64_t head = 0; head < shape.heads; ++head) {
        attend(shape, q, layer, sequence, sequence.first_row + row, head, out);
      }
    }
  }
}

}  // namespace gimbal::kernels
