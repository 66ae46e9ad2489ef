#include "kernels/kv_cache.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/row_chunks.h"

namespace gimbal::kernels {
namespace {

// Rows of different tasks may share a page, but never an element: plain stores of elements only.
template <class T>
void write_token(const KvLayer& layer, std::int64_t page, std::int64_t token, const T* k,
                 const T* v) {
  constexpr bool kPairs = sizeof(T) == 2;
  const std::int64_t head_dim = layer.layout.head_dim;
  for (std::int64_t head = 0; head < layer.layout.kv_heads; ++head) {
    T* keys = reinterpret_cast<T*>(layer.keys(page, head));
    T* values = reinterpret_cast<T*>(layer.values(page, head));
    if constexpr (kPairs) {
      keys += 2 * token;
      values += (token / 2) * 2 * head_dim + token % 2;
      for (std::int64_t d = 0; d < head_dim; d += 2) {
        keys[d * kPageTokens] = k[d];
        keys[d * kPageTokens + 1] = k[d + 1];
      }
      for (std::int64_t d = 0; d < head_dim; ++d)
        values[2 * d] = v[d];
    } else {
      keys += token;
      for (std::int64_t d = 0; d < head_dim; ++d)
        keys[d * kPageTokens] = k[d];
      std::copy_n(v, head_dim, values + token * head_dim);
    }
    k += head_dim;
    v += head_dim;
  }
}

// Rows [begin, end) of the batch, those of `sequence` among them.
template <class T>
void write_rows(const KvLayer& layer, tensor::ConstMatrixView k, tensor::ConstMatrixView v,
                const AttentionSequence& sequence, std::int64_t begin, std::int64_t end) {
  begin = std::max(begin, sequence.first_row);
  end = std::min(end, sequence.first_row + sequence.rows);
  for (std::int64_t r = begin; r < end; ++r) {
    const std::int64_t position = sequence.position + (r - sequence.first_row);
    write_token(layer, sequence.pages[position / kPageTokens], position % kPageTokens,
                k.row_as<T>(r), v.row_as<T>(r));
  }
}

}  // namespace

void write_kv(const KernelContext& context, tensor::ConstMatrixView k, tensor::ConstMatrixView v,
              std::span<const AttentionSequence> sequences, const KvLayer& layer) {
  const KvLayout& layout = layer.layout;
  GIMBAL_CHECK(k.dtype == layout.dtype && v.dtype == layout.dtype && k.rows == v.rows);
  GIMBAL_CHECK(k.cols == layout.kv_heads * layout.head_dim && v.cols == k.cols);
  GIMBAL_CHECK(layout.head_dim % 16 == 0);
  for_row_chunks(context, k.rows, grain_of(k.cols), [&](std::int64_t begin, std::int64_t end) {
    for (const AttentionSequence& sequence : sequences) {
      if (layout.dtype == tensor::DType::kBF16) {
        write_rows<tensor::BFloat16>(layer, k, v, sequence, begin, end);
      } else {
        write_rows<float>(layer, k, v, sequence, begin, end);
      }
    }
  });
}

}  // namespace gimbal::kernels
