#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace gimbal::kernels {

// Instruction sets that kernels are written for, in ascending order of speed. Every level has all
// operations; a result may differ between levels by rounding, never by row count or threads.
enum class Isa : std::uint8_t {
  kReference,   // plain loops, any processor
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // AVX-512 F, BW, VL, DQ
  kAvx512Bf16,  // and the bfloat16 dot product
  kAmxBf16,     // and bfloat16 matrix tiles
};

inline constexpr Isa kAllIsas[] = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16,
                                   Isa::kAmxBf16};

// Whether this processor and operating system run `isa`. The first question about kAmxBf16 asks the
// system for the right to use tiles, for the whole process. Thread-safe.
[[nodiscard]] bool isa_supported(Isa isa);
// The fastest supported level.
[[nodiscard]] Isa best_isa();

// "reference", "avx2", "avx512", "avx512_bf16", "amx_bf16".
[[nodiscard]] std::string_view to_string(Isa isa);
// Accepts the names above; the error names the value. Says nothing about support.
[[nodiscard]] Result<Isa> parse_isa(std::string_view name);

}  // namespace gimbal::kernels
