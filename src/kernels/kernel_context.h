#pragma once

#include "base/thread_pool.h"
#include "kernels/isa.h"

namespace gimbal::kernels {

// What every operation needs to run: the threads it may use and the instructions it may issue.
// Cheap to copy; the pool and the interrupt must outlive it. Requires: isa_supported(isa).
struct KernelContext {
  ThreadPool& pool;
  Isa isa = Isa::kReference;
  // Regions overtake those of callers that are not urgent. Worker numbers go up to pool.workers().
  Urgency urgency = Urgency::kNormal;
  Interrupt* interrupt = nullptr;  // between the tasks of regions; may be null

  // Within a task of a region, now and then in a long one: lets urgent regions and the interrupt
  // have their turn. Registers of matrix tiles do not survive it.
  void pause(int worker) const {
    if (urgency == Urgency::kNormal) pool.pause(worker, interrupt);
  }
  // One parallel region: body(task, worker) for each task in [0, tasks).
  void run(int tasks, ThreadPool::Body body) const {
    if (urgency == Urgency::kUrgent) {
      pool.run_urgent(tasks, body, interrupt);
    } else {
      pool.run(tasks, body, interrupt);
    }
  }
};

}  // namespace gimbal::kernels
