#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/function_ref.h"

namespace gimbal {

struct ThreadPoolOptions {
  // Threads that work on one parallel region, the caller among them. 0: one per available CPU.
  int workers = 0;
  // Bind each worker (and a caller that asks for it with pin_caller) to a CPU of its own.
  bool pin = true;
  // How long an idle worker spins for the next region before it sleeps.
  Duration spin = std::chrono::microseconds(200);
};

// The process-wide pool of compute threads. The calling thread takes part in its own regions, so a
// pool of n workers owns n - 1 threads. Thread-safe: regions of several callers run one by one.
class ThreadPool {
 public:
  explicit ThreadPool(const ThreadPoolOptions& options = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int workers() const { return workers_; }

  // Calls body(task, worker) once for each task in [0, tasks), on all workers, and returns when all
  // have ended. Tasks start in ascending order but may end in any; worker is in [0, workers()), and
  // no two tasks with the same worker overlap. No allocation. body must not throw or call run().
  void run(int tasks, FunctionRef<void(int task, int worker)> body);

  // Binds the calling thread to the first CPU of the pool, if the pool is pinned.
  void pin_caller() const;

 private:
  struct alignas(64) Region {
    std::atomic<int> next{0};
    std::atomic<int> running{0};
  };

  void stop();
  void work(int worker);
  void drain(int worker);

  int workers_;
  bool pin_;
  Duration spin_;
  std::vector<int> cpus_;
  std::mutex callers_;  // held by the one caller whose region runs
  // The region that runs: written by the caller before epoch_ moves, read by workers after.
  const FunctionRef<void(int, int)>* body_ = nullptr;
  int tasks_ = 0;
  Region region_;
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace gimbal
