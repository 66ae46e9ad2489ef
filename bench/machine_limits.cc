#include "bench/machine_limits.h"

#include <immintrin.h>
#include <time.h>

#include <atomic>
#include <cstdint>

namespace gimbal::bench {
namespace {

using kernels::Isa;
using tensor::DType;

// Keeps results that nobody needs.
std::atomic<std::uint64_t> sink;

template <int kStreams>
__attribute__((target("avx2"))) std::uint64_t read_streams(const std::byte* data,
                                                           std::size_t bytes) {
  const std::size_t stream = bytes / kStreams / 256 * 256;
  __m256i sums[4] = {};
  for (std::size_t at = 0; at < stream; at += 256) {
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

constexpr int kRounds = 100000;

__attribute__((target("avx2,fma"))) double spin_avx2() {
  __m256 sums[12];
  for (auto& sum : sums)
    sum = _mm256_set1_ps(1.0F);
  __m256 x = _mm256_set1_ps(1e-9F);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i)
      sums[i] = _mm256_fmadd_ps(x, x, sums[i]);
    asm volatile("" : "+x"(x));
  }
  for (auto& sum : sums)
    x = _mm256_add_ps(x, sum);
  sink += static_cast<std::uint64_t>(_mm256_cvtss_f32(x));
  return 12.0 * 8 * 2 * kRounds;
}

__attribute__((target("avx512f"))) double spin_avx512() {
  __m512 sums[24];
  for (auto& sum : sums)
    sum = _mm512_set1_ps(1.0F);
  __m512 x = _mm512_set1_ps(1e-9F);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i)
      sums[i] = _mm512_fmadd_ps(x, x, sums[i]);
    asm volatile("" : "+v"(x));
  }
  for (auto& sum : sums)
    x = _mm512_add_ps(x, sum);
  sink += static_cast<std::uint64_t>(_mm512_cvtss_f32(x));
  return 24.0 * 16 * 2 * kRounds;
}

__attribute__((target("avx512f,avx512bf16"))) double spin_avx512_bf16() {
  __m512 sums[24];
  for (auto& sum : sums)
    sum = _mm512_set1_ps(1.0F);
  __m512i x = _mm512_set1_epi32(0x30003000);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) {
      sums[i] =
          _mm512_dpbf16_ps(sums[i], reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(x));
    }
    asm volatile("" : "+v"(x));
  }
  __m512 all = sums[0];
  for (auto& sum : sums)
    all = _mm512_add_ps(all, sum);
  sink += static_cast<std::uint64_t>(_mm512_cvtss_f32(all));
  return 24.0 * 32 * 2 * kRounds;
}

__attribute__((target("amx-tile,amx-bf16"))) double spin_amx() {
  alignas(64) std::uint8_t shapes[64] = {1};
  for (int tile = 0; tile < 8; ++tile) {
    shapes[16 + 2 * tile] = 64;
    shapes[48 + tile] = 16;
  }
  _tile_loadconfig(shapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int round = 0; round < kRounds / 10; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 4.0 * 16 * 16 * 32 * 2 * (kRounds / 10);
}

}  // namespace

double seconds_now(const ThreadPool& pool) {
  timespec time{};
  clock_gettime(pool.workers() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double read_bandwidth(ThreadPool& pool, std::span<const std::byte> memory, int streams) {
  const std::size_t part = std::size_t{4} << 20;
  const auto tasks = static_cast<int>(memory.size() / part);
  const double start = seconds_now(pool);
  pool.run(tasks, [&](int task, int) {
    const std::byte* data = memory.data() + static_cast<std::size_t>(task) * part;
    sink += streams == 1   ? read_streams<1>(data, part)
            : streams == 4 ? read_streams<4>(data, part)
                           : read_streams<8>(data, part);
  });
  return static_cast<double>(part) * tasks / (seconds_now(pool) - start);
}

double multiply_add_peak(ThreadPool& pool, Isa isa, DType dtype) {
  const bool bf16 = dtype == DType::kBF16;
  double (*spin)() = isa == Isa::kAmxBf16 && bf16      ? spin_amx
                     : isa == Isa::kAvx512Bf16 && bf16 ? spin_avx512_bf16
                     : isa >= Isa::kAvx512             ? spin_avx512
                                                       : spin_avx2;
  const int tasks = pool.workers() * 4;
  std::atomic<double> operations = 0;
  const double start = seconds_now(pool);
  pool.run(tasks, [&](int, int) { operations.fetch_add(spin()); });
  return operations.load() / (seconds_now(pool) - start);
}

}  // namespace gimbal::bench
