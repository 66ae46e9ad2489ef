#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"
#include "tensor/dtype.h"

// The inner loops of MachineLimits. Each runs on the calling thread alone.
namespace gimbal::apps {

// Reads `bytes` as `streams` (1, 4 or 8) equally long sequential streams, 256 bytes of each in
// turn; returns a sum of what it read. Requires: data aligned to 64, bytes a multiple of 2048,
// isa_supported(isa).
[[nodiscard]] std::uint64_t read_streams(kernels::Isa isa, int streams, const std::byte* data,
                                         std::size_t bytes);

// Does multiply-adds on registers with the instruction that `isa` uses for `dtype`, for some
// milliseconds; returns how many floating-point operations they were. Requires: isa_supported(isa).
double multiply_add(kernels::Isa isa, tensor::DType dtype);

}  // namespace gimbal::apps
