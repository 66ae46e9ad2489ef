#pragma once

#include <algorithm>
#include <cstdint>

#include "base/function_ref.h"
#include "kernels/kernel_context.h"

namespace gimbal::kernels {

// Calls body(begin, end) for chunks of [0, rows) on the pool's workers; on the caller alone when
// there is less than `grain` rows of work. Chunks are no part of a result: kernels are
// batch-invariant.
inline void for_row_chunks(const KernelContext& context, std::int64_t rows, std::int64_t grain,
                           FunctionRef<void(std::int64_t begin, std::int64_t end)> body) {
  if (rows <= 0) return;
  const std::int64_t wanted = std::min<std::int64_t>(rows / std::max<std::int64_t>(grain, 1),
                                                     std::int64_t{4} * context.pool.workers());
  if (wanted <= 1 || context.pool.workers() == 1) {
    body(0, rows);
    return;
  }
  context.run(static_cast<int>(wanted),
              [&](int task, int) { body(rows * task / wanted, rows * (task + 1) / wanted); });
}

// The grain that makes a chunk worth a worker: about 16 Ki elements.
[[nodiscard]] constexpr std::int64_t grain_of(std::int64_t cols) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(cols, 1));
}

}  // namespace gimbal::kernels
