#include "synthetic/fixed_point.h"

#include <bit>

#include "base/check.h"

namespace gimbal::synthetic {
std::uint64_t integer_sqrt(std::uint64_t value) {
  std::uint64_t root = 0;
  for (std::uint64_t bit = std::uint64_t{1} << 31; bit != 0; bit >>= 1) {
    const std::uint64_t candidate = root | bit;
    if (candidate * candidate <= value) root = candidate;
  }
  return root;
}

std::int64_t log_fixed16(std::uint32_t value) {
  GIMBAL_CHECK(value >= 1);
  // log2 by repeated squaring of the mantissa, one result bit a step.
  const int whole = 31 - std::countl_zero(value);
  std::uint64_t mantissa = static_cast<std::uint64_t>(value) << (31 - whole);  // [1, 2) in 2^-31
  std::uint64_t log2 = static_cast<std::uint64_t>(whole) << 20;
  for (int bit = 19; bit >= 0; --bit) {
    mantissa = (mantissa * mantissa) >> 31;
    if (mantissa >= std::uint64_t{1} << 32) {
      mantissa >>= 1;
      log2 |= std::uint64_t{1} << bit;
    }
  }
  constexpr std::uint64_t kLn2 = 2977044472;  // ln 2 in units of 2^-32
  return static_cast<std::int64_t>((log2 * kLn2) >> 36);
}

Fixed noise_step(std::uint32_t gain_256, std::uint64_t fan_in) {
  GIMBAL_CHECK(gain_256 < (1U << 14) && fan_in >= 1);
  // step * 2^16 / sqrt(3) = gain / 256 / sqrt(fan_in) * 2^40, solved for step.
  const std::uint64_t gain = gain_256;
  return static_cast<Fixed>(integer_sqrt(((3 * gain * gain) << 32) / fan_in));
}

}  // namespace gimbal::synthetic
