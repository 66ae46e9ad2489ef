#pragma once

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "kernels/isa.h"
#include "tensor/dtype.h"

// What a machine can do at most, measured beside the kernels that are held against it.
namespace gimbal::bench {

// Seconds since some start: of the clock on the wall, or, where the pool is the calling thread
// alone, of that thread's processor time, which other programs on the machine do not lengthen.
[[nodiscard]] double seconds_now(const ThreadPool& pool);

// Bytes a second that all workers read from `memory`, which should be larger than any cache. Each
// worker reads `streams` (1, 4 or 8) sequential streams at once.
[[nodiscard]] double read_bandwidth(ThreadPool& pool, kernels::Isa isa,
                                    std::span<const std::byte> memory, int streams);

// Floating-point operations a second of multiply-adds on registers, on all workers, with the
// instruction that `isa` uses for `dtype`.
[[nodiscard]] double multiply_add_peak(ThreadPool& pool, kernels::Isa isa, tensor::DType dtype);

}  // namespace gimbal::bench
