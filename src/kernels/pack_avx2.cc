#include "kernels/pack_avx2.h"

#include <immintrin.h>

namespace gimbal::kernels {
namespace {

using tensor::DType;

constexpr int kLanes = 16;
// A square of a panel: 16 rows of 64 bytes, 16 words each. A word is one float or a pair of
// bfloat16, so that both types transpose alike.
constexpr std::size_t kSquareRow = 64;

// Eight rows of eight words each, `row_bytes` apart, written as columns 64 bytes apart.
void transpose_eight(const std::byte* source, std::size_t row_bytes, std::byte* target) {
  __m256i row[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    row[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i * row_bytes));
  __m256i pair[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
  }
  __m256i quad[8];  // quad[c]: words c and c + 4 of rows 0-3; quad[c + 4]: of rows 4-7
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const int i = half * 4;
    quad[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
    quad[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
    quad[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
    quad[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(target + c * kSquareRow),
                       _mm256_permute2x128_si256(quad[c], quad[c + 4], 0x20));
    _mm256_store_si256(reinterpret_cast<__m256i*>(target + (c + 4) * kSquareRow),
                       _mm256_permute2x128_si256(quad[c], quad[c + 4], 0x31));
  }
}

void transpose_square(const std::byte* source, std::size_t row_bytes, std::byte* target) {
  transpose_eight(source, row_bytes, target);
  transpose_eight(source + 8 * row_bytes, row_bytes, target + 32);
  transpose_eight(source + 32, row_bytes, target + 8 * kSquareRow);
  transpose_eight(source + 8 * row_bytes + 32, row_bytes, target + 8 * kSquareRow + 32);
}

__m256 load_as_float(const std::byte* source, DType dtype) {
  if (dtype == DType::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(source));
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  if (dtype == DType::kF16) return _mm256_cvtph_ps(half);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

// Rounds to bfloat16 (nearest, ties to even; NaN stays NaN), in the low half of each lane.
__m256i round_to_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, is_nan);
}

// Converts eight elements.
void convert_eight(const std::byte* source, DType from, DType to, std::byte* target) {
  const __m256 values = load_as_float(source, from);
  if (to == DType::kF32) {
    _mm256_storeu_ps(reinterpret_cast<float*>(target), values);
    return;
  }
  const __m256i words = round_to_bf16(values);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(target),
      _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

int element_bytes(DType dtype) {
  return dtype == DType::kF32 ? 4 : 2;
}

// The square at inputs [k, k + inputs) through a buffer: for conversions and for edges.
void pack_edge(const PanelSource& source, std::int64_t k, int inputs, DType dtype,
               std::byte* target) {
  alignas(64) std::byte square[kLanes * kSquareRow] = {};
  const int from = element_bytes(source.dtype);
  const int to = element_bytes(dtype);
  const std::int64_t left = source.k - k;
  const int valid = static_cast<int>(left < inputs ? left : inputs);
  for (int lane = 0; lane < source.lanes; ++lane) {
    const std::byte* in = source.data + lane * source.row_bytes + k * from;
    std::byte* out = square + lane * kSquareRow;
    int i = 0;
    for (; i + 8 <= valid; i += 8)
      convert_eight(in + i * from, source.dtype, dtype, out + i * to);
    if (i == valid) continue;
    std::byte rest[32] = {};
    std::byte converted[32];
    for (int byte = 0; byte < (valid - i) * from; ++byte)
      rest[byte] = in[i * from + byte];
    convert_eight(rest, source.dtype, dtype, converted);
    for (int byte = 0; byte < (valid - i) * to; ++byte)
      out[i * to + byte] = converted[byte];
  }
  transpose_square(square, kSquareRow, target);
}

}  // namespace

void pack_panel_avx2(const PanelSource& source, DType dtype, std::byte* panel) {
  const int bytes = element_bytes(dtype);
  const int inputs = static_cast<int>(kSquareRow) / bytes;  // of a square
  const bool direct = source.dtype == dtype && source.lanes == kLanes;
  for (std::int64_t k = 0; k < source.k; k += inputs) {
    if (direct && k + inputs <= source.k) {
      transpose_square(source.data + k * bytes, source.row_bytes, panel);
    } else {
      pack_edge(source, k, inputs, dtype, panel);
    }
    panel += kLanes * kSquareRow;
  }
}

}  // namespace gimbal::kernels
