#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "apps/matrix_yardstick.h"
#include "base/thread_pool.h"
#include "kernels/isa.h"
#include "tensor/buffer.h"
#include "tensor/dtype.h"

namespace gimbal::apps {

// What a machine can do at most, measured on the threads of `pool` beside the work that is held
// against it. One thread: the one that runs the pool's regions.
class MachineLimits {
 public:
  struct Options {
    kernels::Isa isa = kernels::Isa::kReference;       // of the work
    tensor::DType dtype = tensor::DType::kBF16;        // of the work
    tensor::PageKind pages = tensor::PageKind::kHuge;  // of the work's weights
    bool pin = true;                                   // as the pool does
  };
  struct Sample {
    double read_bandwidth = 0.0;  // bytes a second
    double matrix_rate = 0.0;     // floating-point operations a second
  };

  // Takes 2 GiB of memory. Requires: called before the pool binds the calling thread to a CPU.
  MachineLimits(ThreadPool& pool, const Options& options);

  // Both limits once: the most that 1, 4 or 8 sequential streams a thread read of 2 GiB, and the
  // rate of the yardstick. Takes some tenths of a second.
  [[nodiscard]] Sample measure();

  // What matrix_rate is the rate of: a MatrixYardstick by name, with bfloat16 where the work and
  // the processor have it; or "own_peak" in builds without one: multiply-adds on registers at the
  // work's ISA level.
  [[nodiscard]] std::string_view matrix_yardstick() const;

 private:
  [[nodiscard]] double read_bandwidth(int streams) const;
  [[nodiscard]] double own_peak() const;

  ThreadPool& pool_;
  Options options_;
  tensor::Buffer memory_;
  std::unique_ptr<MatrixYardstick> yardstick_;  // null: own_peak
};

// What the system calls its processor; empty where it does not say.
[[nodiscard]] std::string processor_name();
// Bytes of this process's memory that stand in huge pages.
[[nodiscard]] double huge_page_bytes();

}  // namespace gimbal::apps
