#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gimbal {
namespace {

std::vector<int> available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

void bind_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // Best effort: a container may forbid it, and the work is right anyway.
  (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Spins until `done` holds or `limit` has passed; true if it holds.
template <class Condition>
bool spin_until(Condition done, Duration limit) {
  const auto start = std::chrono::steady_clock::now();
  for (int round = 1;; ++round) {
    if (done()) return true;
    pause_briefly();
    if (round % 64 == 0 && std::chrono::steady_clock::now() - start >= limit) return done();
  }
}

}  // namespace

ThreadPool::ThreadPool(const ThreadPoolOptions& options)
    : pin_(options.pin), spin_(options.spin), cpus_(available_cpus()) {
  const int available = static_cast<int>(cpus_.size());
  workers_ = options.workers > 0 ? options.workers : available;
  // More workers than CPUs only spin in each other's way.
  if (workers_ > available) {
    pin_ = false;
    spin_ = Duration::zero();
  }
  threads_.reserve(workers_ - 1);
  try {
    for (int worker = 1; worker < workers_; ++worker) {
      threads_.emplace_back([this, worker] { work(worker); });
    }
  } catch (...) {  // the system gives no more threads: end those that run
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  stopping_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
}

void ThreadPool::pin_caller() const {
  if (pin_) bind_to(cpus_.front());
}

void ThreadPool::run(int tasks, FunctionRef<void(int, int)> body) {
  if (tasks <= 0) return;
  const std::lock_guard lock(callers_);
  if (tasks == 1 || workers_ == 1) {
    for (int task = 0; task < tasks; ++task)
      body(task, 0);
    return;
  }
  body_ = &body;
  tasks_ = tasks;
  region_.next.store(0, std::memory_order_relaxed);
  region_.running.store(workers_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1);
  if (sleepers_.load() > 0) epoch_.notify_all();
  drain(0);
  // The others are within their last task: wait without sleeping, but let a shared CPU go on.
  while (!spin_until([this] { return region_.running.load(std::memory_order_acquire) == 0; },
                     std::chrono::microseconds(50))) {
    sched_yield();
  }
}

void ThreadPool::drain(int worker) {
  const auto& body = *body_;
  const int tasks = tasks_;
  for (int task = region_.next.fetch_add(1, std::memory_order_relaxed); task < tasks;
       task = region_.next.fetch_add(1, std::memory_order_relaxed)) {
    body(task, worker);
  }
}

void ThreadPool::work(int worker) {
  if (pin_) bind_to(cpus_[worker % cpus_.size()]);
  std::uint32_t seen = 0;
  while (true) {
    const auto moved = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(moved, spin_)) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    if (stopping_.load()) return;
    // A region cannot start before every worker has ended the one before, so epochs step by one.
    seen = epoch_.load(std::memory_order_acquire);
    drain(worker);
    region_.running.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace gimbal
