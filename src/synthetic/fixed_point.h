#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/check.h"

namespace gimbal::synthetic {

// A weight before it becomes a float: an integer in units of 2^-40. Everything up to the float's
// bits is integer arithmetic, so a seed gives the same bytes on every processor and compiler.
using Fixed = std::int64_t;

inline constexpr int kFractionBits = 40;
inline constexpr Fixed kOne = Fixed{1} << kFractionBits;

namespace detail {

// Rounds value * 2^-40 to a binary float with `mantissa_bits` stored bits and smallest normal
// exponent `min_exponent`; returns its bits without the sign.
template <int mantissa_bits, int min_exponent>
constexpr std::uint32_t magnitude_bits(std::uint64_t magnitude) {
  if (magnitude == 0) return 0;
  GIMBAL_DCHECK(magnitude < std::uint64_t{1} << 55);
  const int top = 63 - std::countl_zero(magnitude) - kFractionBits;
  // The exponent of the result's last stored bit; subnormals share that of the smallest normal.
  const int quantum = std::max(top, min_exponent) - mantissa_bits;
  const int shift = quantum + kFractionBits;
  std::uint64_t fraction = 0;
  if (shift <= 0) {
    fraction = magnitude << -shift;
  } else {
    const std::uint64_t half = std::uint64_t{1} << (shift - 1);
    fraction = (magnitude + half - 1 + ((magnitude >> shift) & 1)) >> shift;
  }
  // The hidden bit of `fraction`, and a carry out of rounding, add to the exponent field.
  const auto exponent = static_cast<std::uint32_t>(quantum - (min_exponent - mantissa_bits));
  return (exponent << mantissa_bits) + static_cast<std::uint32_t>(fraction);
}

constexpr std::uint64_t magnitude_of(Fixed value) {
  return value < 0 ? -static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
}

}  // namespace detail

// Bits of the nearest float of each kind (ties to even; subnormal halves included).
// Requires: |value| < 2^15.
[[nodiscard]] constexpr std::uint32_t float32_bits(Fixed value) {
  return (value < 0 ? 0x80000000U : 0U) |
         detail::magnitude_bits<23, -126>(detail::magnitude_of(value));
}
[[nodiscard]] constexpr std::uint16_t bfloat16_bits(Fixed value) {
  return static_cast<std::uint16_t>((value < 0 ? 0x8000U : 0U) |
                                    detail::magnitude_bits<7, -126>(detail::magnitude_of(value)));
}
[[nodiscard]] constexpr std::uint16_t float16_bits(Fixed value) {
  return static_cast<std::uint16_t>((value < 0 ? 0x8000U : 0U) |
                                    detail::magnitude_bits<10, -14>(detail::magnitude_of(value)));
}

// floor(sqrt(value)).
[[nodiscard]] std::uint64_t integer_sqrt(std::uint64_t value);

// ln(value) in units of 2^-16, rounded down. Requires: value >= 1.
[[nodiscard]] std::int64_t log_fixed16(std::uint32_t value);

// An approximately normal integer: four uniform 16-bit numbers summed and centred (Irwin-Hall).
// Mean 0, standard deviation 2^16 / sqrt(3) = 37837, within +-131070.
[[nodiscard]] constexpr std::int64_t irwin_hall(std::uint64_t word) {
  return static_cast<std::int64_t>(word & 0xffff) +
         static_cast<std::int64_t>((word >> 16) & 0xffff) +
         static_cast<std::int64_t>((word >> 32) & 0xffff) + static_cast<std::int64_t>(word >> 48) -
         131070;
}

// The factor that gives irwin_hall() numbers the standard deviation gain / 256 / sqrt(fan_in).
// Requires: 0 <= gain_256 < 2^14, fan_in >= 1.
[[nodiscard]] Fixed noise_step(std::uint32_t gain_256, std::uint64_t fan_in);

}  // namespace gimbal::synthetic
