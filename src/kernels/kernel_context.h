#pragma once

#include "base/thread_pool.h"
#include "kernels/isa.h"

namespace gimbal::kernels {

// What every operation needs to run: the threads it may use and the instructions it may issue.
// Cheap to copy; the pool must outlive it. Requires: isa_supported(isa).
struct KernelContext {
  ThreadPool& pool;
  Isa isa = Isa::kReference;
};

}  // namespace gimbal::kernels
