#include "base/thread_pool.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/niceness.h"
#include "base/thread_name.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gimbal {
namespace {

// How long a caller keeps its turn while others wait.
constexpr auto kTurn = std::chrono::milliseconds(2);
// How often a caller that waits for its turn calls its interrupt.
constexpr auto kSignOfLife = std::chrono::milliseconds(100);

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

// The available CPUs, beginning with number `first`.
std::vector<int> cpus_from(int first) {
  std::vector<int> cpus = available_cpus();
  std::rotate(cpus.begin(), cpus.begin() + first % static_cast<int>(cpus.size()), cpus.end());
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

void ThreadPool::Turn::take(Interrupt* interrupt) {
  const std::thread::id self = std::this_thread::get_id();
  std::unique_lock lock(mutex_);
  if (waiting_ > 0 && owner_ == self && std::chrono::steady_clock::now() - since_ >= kTurn) {
    passing_ = true;
    free_.notify_all();
  }
  if (taken_ || (passing_ && owner_ == self)) {
    ++waiting_;
    // Alone among those who wait, the old owner may go on.
    const auto mine = [&] { return !taken_ && !(passing_ && owner_ == self && waiting_ > 1); };
    while (!free_.wait_for(lock, kSignOfLife, mine)) {
      if (interrupt == nullptr) continue;
      lock.unlock();
      interrupt->between_tasks();
      lock.lock();
    }
    --waiting_;
  }
  if (owner_ != self || passing_) since_ = std::chrono::steady_clock::now();
  owner_ = self;
  passing_ = false;
  taken_ = true;
}

void ThreadPool::Turn::give_back() {
  bool wanted = false;
  {
    const std::lock_guard lock(mutex_);
    taken_ = false;
    wanted = waiting_ > 0;
  }
  if (wanted) free_.notify_all();
}

ThreadPool::ThreadPool(const ThreadPoolOptions& options)
    : pin_(options.pin),
      nice_(options.nice),
      spin_(options.spin),
      cpus_(cpus_from(options.first_cpu)) {
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

void ThreadPool::run(int tasks, Body body, Interrupt* interrupt) {
  run_region(normal_, tasks, body, 0, interrupt);
}

void ThreadPool::run_urgent(int tasks, Body body, Interrupt* interrupt) {
  run_region(urgent_, tasks, body, workers_, interrupt);
}

void ThreadPool::run_region(Lane& lane, int tasks, Body body, int caller, Interrupt* interrupt) {
  if (tasks <= 0) return;
  lane.turn.take(interrupt);
  lane.body = &body;
  lane.tasks = tasks;
  lane.next.store(0, std::memory_order_relaxed);
  if (tasks == 1 || workers_ == 1) {
    drain(lane, caller, interrupt);
  } else {
    lane.open.store(true);
    epoch_.fetch_add(1);
    if (sleepers_.load() > 0) epoch_.notify_all();
    drain(lane, caller, interrupt);
    lane.open.store(false);
    // The others are within their last task: wait without sleeping, but let a shared CPU go on.
    while (!spin_until([&lane] { return lane.inside.load() == 0; }, std::chrono::microseconds(50)))
      sched_yield();
  }
  lane.turn.give_back();
}

void ThreadPool::drain(Lane& lane, int worker, Interrupt* interrupt) {
  const Body& body = *lane.body;
  const int tasks = lane.tasks;
  for (int task = lane.next.fetch_add(1, std::memory_order_relaxed); task < tasks;
       task = lane.next.fetch_add(1, std::memory_order_relaxed)) {
    body(task, worker);
    if (&lane != &urgent_) {
      pause(worker, interrupt);
    } else if (interrupt != nullptr) {
      interrupt->between_tasks();
    }
  }
}

void ThreadPool::pause(int worker, Interrupt* interrupt) {
  if (worker == 0 && interrupt != nullptr) interrupt->between_tasks();  // on the caller's thread
  join(urgent_, worker);
}

void ThreadPool::join(Lane& lane, int worker) {
  if (!lane.open.load(std::memory_order_relaxed)) return;
  lane.inside.fetch_add(1);
  if (lane.open.load()) drain(lane, worker, nullptr);
  lane.inside.fetch_sub(1);
}

void ThreadPool::work(int worker) {
  const int cpu = cpus_[worker % cpus_.size()];
  name_thread(fmt::format("worker {}", pin_ ? cpu : worker));
  if (pin_) bind_to(cpu);
  be_nicer(nice_);
  std::uint32_t seen = 0;
  while (true) {
    const auto moved = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(moved, spin_)) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    if (stopping_.load()) return;
    seen = epoch_.load();
    join(urgent_, worker);
    join(normal_, worker);
  }
}

}  // namespace gimbal
