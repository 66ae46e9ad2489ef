#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace gimbal::tensor {

// Element types of checkpoints. The engine executes in kBF16 or kF32; kF16 is converted at load.
enum class DType : std::uint8_t { kF32, kBF16, kF16 };

[[nodiscard]] constexpr std::size_t size_of(DType dtype) {
  return dtype == DType::kF32 ? 4 : 2;
}
// "float32", "bfloat16", "float16".
[[nodiscard]] std::string_view to_string(DType dtype);
// Accepts the names above; the error names the value.
[[nodiscard]] Result<DType> parse_dtype(std::string_view name);

// The upper half of a float. Storage only: arithmetic is done in float.
struct BFloat16 {
  std::uint16_t bits = 0;
  auto operator<=>(const BFloat16&) const = default;
};

[[nodiscard]] inline float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
[[nodiscard]] inline float to_float(float value) {
  return value;
}

// Round to nearest, ties to even; NaN stays NaN.
[[nodiscard]] inline BFloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

// IEEE half, given by its bits.
[[nodiscard]] float half_to_float(std::uint16_t bits);

}  // namespace gimbal::tensor
