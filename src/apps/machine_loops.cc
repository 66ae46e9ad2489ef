#include "apps/machine_loops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <atomic>
#include <iterator>

#include "kernels/amx_tiles.h"

namespace gimbal::apps {
namespace {

using kernels::Isa;
using tensor::DType;

constexpr std::size_t kBlock = 256;
constexpr int kRounds = 200000;

// Keeps sums that nobody needs.
std::atomic<float> sink{0.0F};

template <int kStreams>
std::uint64_t read_plain(const std::byte* data, std::size_t bytes) {
  const std::size_t stream = bytes / kStreams;
  std::uint64_t sums[4] = {};
  for (std::size_t at = 0; at < stream; at += kBlock) {
    for (int s = 0; s < kStreams; ++s) {
      const auto* words = reinterpret_cast<const std::uint64_t*>(data + s * stream + at);
      for (int i = 0; i < 32; ++i)
        sums[i % 4] ^= words[i];
    }
  }
  return (sums[0] ^ sums[1]) ^ (sums[2] ^ sums[3]);
}

double multiply_add_plain() {
  float sums[16] = {};
  float x = 1e-9F;
  for (int round = 0; round < kRounds; ++round) {
    for (float& sum : sums)
      sum += x * x;
    asm volatile("" : "+m"(x));
  }
  for (const float sum : sums)
    x += sum;
  sink = x;
  return 16.0 * 2 * kRounds;
}

#if defined(__x86_64__)
template <int kStreams>
__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::byte* data, std::size_t bytes) {
  const std::size_t stream = bytes / kStreams;
  __m256i sums[4] = {};
  for (std::size_t at = 0; at < stream; at += kBlock) {
    for (int s = 0; s < kStreams; ++s) {
      const auto* line = reinterpret_cast<const __m256i*>(data + s * stream + at);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        sums[i % 4] = _mm256_xor_si256(sums[i % 4], _mm256_load_si256(line + i));
    }
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0));
}

// Sums start apart: those that start alike are one sum to the compiler. Two units of four cycles'
// latency need eight independent sums; twelve leave room.
__attribute__((target("avx2,fma"))) double multiply_add_avx2() {
  __m256 sums[12];
  for (int i = 0; i < static_cast<int>(std::size(sums)); ++i)
    sums[i] = _mm256_set1_ps(static_cast<float>(i));
  __m256 x = _mm256_set1_ps(1e-9F);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (auto& sum : sums)
      sum = _mm256_fmadd_ps(x, x, sum);
    asm volatile("" : "+x"(x));
  }
  for (const auto& sum : sums)
    x = _mm256_add_ps(x, sum);
  sink = _mm256_cvtss_f32(x);
  return 12.0 * 8 * 2 * kRounds;
}

__attribute__((target("avx512f"))) double multiply_add_avx512() {
  __m512 sums[24];
  for (int i = 0; i < static_cast<int>(std::size(sums)); ++i)
    sums[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512 x = _mm512_set1_ps(1e-9F);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 24
    for (auto& sum : sums)
      sum = _mm512_fmadd_ps(x, x, sum);
    asm volatile("" : "+v"(x));
  }
  for (const auto& sum : sums)
    x = _mm512_add_ps(x, sum);
  sink = _mm512_cvtss_f32(x);
  return 24.0 * 16 * 2 * kRounds;
}

__attribute__((target("avx512f,avx512bf16"))) double multiply_add_avx512_bf16() {
  __m512 sums[24];
  for (int i = 0; i < static_cast<int>(std::size(sums)); ++i)
    sums[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512i x = _mm512_set1_epi32(0x30003000);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 24
    for (auto& sum : sums)
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(x));
    asm volatile("" : "+v"(x));
  }
  __m512 all = sums[0];
  for (const auto& sum : sums)
    all = _mm512_add_ps(all, sum);
  sink = _mm512_cvtss_f32(all);
  return 24.0 * 32 * 2 * kRounds;
}

__attribute__((target("amx-tile,amx-bf16"))) double multiply_add_amx() {
  kernels::configure_tiles();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  constexpr int kTileRounds = kRounds / 20;
  for (int round = 0; round < kTileRounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  kernels::release_tiles();
  return 4.0 * 16 * 16 * 32 * 2 * kTileRounds;
}
#endif

}  // namespace

std::uint64_t read_streams(Isa isa, int streams, const std::byte* data, std::size_t bytes) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx2) {
    return streams == 1   ? read_avx2<1>(data, bytes)
           : streams == 4 ? read_avx2<4>(data, bytes)
                          : read_avx2<8>(data, bytes);
  }
#endif
  return streams == 1   ? read_plain<1>(data, bytes)
         : streams == 4 ? read_plain<4>(data, bytes)
                        : read_plain<8>(data, bytes);
}

double multiply_add(Isa isa, DType dtype) {
#if defined(__x86_64__)
  const bool bf16 = dtype == DType::kBF16;
  if (isa >= Isa::kAmxBf16 && bf16) return multiply_add_amx();
  if (isa >= Isa::kAvx512Bf16 && bf16) return multiply_add_avx512_bf16();
  if (isa >= Isa::kAvx512) return multiply_add_avx512();
  if (isa >= Isa::kAvx2) return multiply_add_avx2();
#endif
  return multiply_add_plain();
}

}  // namespace gimbal::apps
