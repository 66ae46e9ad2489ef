#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace gimbal {

// Mixes a 64-bit word so that every input bit changes about half of the output bits (bijective).
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  x ^= x >> 31;
  return x;
}

// The hash of `seed` followed by `value`; order matters.
[[nodiscard]] constexpr std::uint64_t hash_combine(std::uint64_t seed, std::uint64_t value) {
  return mix64(seed * 0x9e3779b97f4a7c15ULL + value + 0x632be59bd9b4e019ULL);
}

// Fast hashes that are the same in every process. Not for adversarial input without a secret seed.
[[nodiscard]] std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed = 0);
[[nodiscard]] std::uint64_t hash_tokens(std::span<const std::int32_t> tokens,
                                        std::uint64_t seed = 0);

}  // namespace gimbal
