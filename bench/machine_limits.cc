#include "bench/machine_limits.h"

#include <time.h>

#include <atomic>
#include <cstdint>

#include "apps/machine_loops.h"

namespace gimbal::bench {

double seconds_now(const ThreadPool& pool) {
  timespec time{};
  clock_gettime(pool.workers() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double read_bandwidth(ThreadPool& pool, kernels::Isa isa, std::span<const std::byte> memory,
                      int streams) {
  const std::size_t part = std::size_t{4} << 20;
  const auto tasks = static_cast<int>(memory.size() / part);
  std::atomic<std::uint64_t> sum = 0;
  const double start = seconds_now(pool);
  pool.run(tasks, [&](int task, int) {
    const std::byte* data = memory.data() + static_cast<std::size_t>(task) * part;
    sum.fetch_xor(apps::read_streams(isa, streams, data, part));
  });
  return static_cast<double>(part) * tasks / (seconds_now(pool) - start);
}

double multiply_add_peak(ThreadPool& pool, kernels::Isa isa, tensor::DType dtype) {
  std::atomic<double> operations = 0;
  const double start = seconds_now(pool);
  pool.run(pool.workers() * 4,
           [&](int, int) { operations.fetch_add(apps::multiply_add(isa, dtype)); });
  return operations.load() / (seconds_now(pool) - start);
}

}  // namespace gimbal::bench
