#pragma once

#include <atomic>
#include <condition_variable>
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
  // Index of the pool's first CPU among the available ones: pools side by side do not share CPUs.
  int first_cpu = 0;
  // How much nicer than the process the pool's own threads are (be_nicer): lets others go first.
  int nice = 0;
};

// Which of a pool's two lanes a region takes. Regions of one lane run one by one; an urgent one
// overtakes a normal one at task grain: whoever works on the normal one goes over between tasks.
enum class Urgency : std::uint8_t { kNormal, kUrgent };

// What a caller does between any two tasks of its own region, in the pauses of a normal one, and
// now and then while it waits for its turn. One thread: the caller's. Must not throw: a region
// would never end.
class Interrupt {
 public:
  virtual ~Interrupt() = default;
  // In a normal region it may run urgent ones. Called very often: must cost next to nothing when
  // nothing is to do.
  virtual void between_tasks() = 0;
};

// A pool of compute threads. The calling thread takes part in its own regions, so a pool of n
// workers owns n - 1 threads. Thread-safe: callers of one lane take turns, and none waits for much
// longer than 2 ms while another calls again and again.
class ThreadPool {
 public:
  using Body = FunctionRef<void(int task, int worker)>;

  explicit ThreadPool(const ThreadPoolOptions& options = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int workers() const { return workers_; }

  // Calls body(task, worker) once for each task in [0, tasks), on all workers, and returns when all
  // have ended. Tasks start in ascending order but may end in any; worker is in [0, workers()), and
  // no two tasks with the same worker overlap. No allocation. body must not throw or call run().
  // `interrupt` may be null.
  void run(int tasks, Body body, Interrupt* interrupt = nullptr);
  // The same in the urgent lane, where worker is in [0, workers()]: the caller of the normal region
  // that is overtaken helps too. May be called from an Interrupt; `interrupt` must not run regions.
  void run_urgent(int tasks, Body body, Interrupt* interrupt = nullptr);

  // Within a task of a normal region: does what is done between any two of them, so that urgent
  // regions need not wait for the end of a long one. As in the call of the body: `worker`, which
  // the task must not share state with others by; as in that of run(): `interrupt`.
  void pause(int worker, Interrupt* interrupt);

  // Binds the calling thread to the first CPU of the pool, if the pool is pinned.
  void pin_caller() const;

 private:
  // Who may run a region of a lane next. A caller that comes back at once keeps its turn for 2 ms,
  // so that callers do not change places at every region.
  class Turn {
   public:
    // `interrupt`, which may be null, is called while it waits.
    void take(Interrupt* interrupt);
    void give_back();

   private:
    std::mutex mutex_;
    std::condition_variable free_;
    std::thread::id owner_;
    std::chrono::steady_clock::time_point since_;
    int waiting_ = 0;
    bool taken_ = false;
    bool passing_ = false;  // the owner has had its time
  };

  // One region at a time. Workers come and go: `inside` counts them, and the region ends when it is
  // no longer open and nobody is inside. Body and tasks are written only then.
  struct Lane {
    Turn turn;
    const Body* body = nullptr;
    int tasks = 0;
    alignas(64) std::atomic<int> next{0};
    alignas(64) std::atomic<int> inside{0};
    std::atomic<bool> open{false};
  };

  void stop();
  void work(int worker);
  void run_region(Lane& lane, int tasks, Body body, int caller, Interrupt* interrupt);
  void join(Lane& lane, int worker);
  // Runs tasks until none is left to start.
  void drain(Lane& lane, int worker, Interrupt* interrupt);

  int workers_;
  bool pin_;
  int nice_;
  Duration spin_;
  std::vector<int> cpus_;
  Lane normal_;
  Lane urgent_;
  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // moves when a region opens
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace gimbal
