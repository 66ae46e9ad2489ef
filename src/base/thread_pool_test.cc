#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace gimbal {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int workers : {1, 2, 3, 8}) {
    ThreadPool pool({.workers = workers});
    for (const int tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> hits(tasks);
      pool.run(tasks, [&](int task, int worker) {
        EXPECT_LT(worker, workers);
        hits[task].fetch_add(1);
      });
      for (const auto& hit : hits)
        EXPECT_EQ(hit.load(), 1);
    }
  }
}

TEST(ThreadPool, WorkerNumbersDoNotOverlap) {
  ThreadPool pool({.workers = 4});
  std::vector<std::atomic<int>> inside(4);
  pool.run(2000, [&](int, int worker) {
    EXPECT_EQ(inside[worker].fetch_add(1), 0);
    inside[worker].fetch_sub(1);
  });
}

TEST(ThreadPool, ManyShortRegionsWakeSleepers) {
  ThreadPool pool({.workers = 3, .spin = Duration::zero()});
  int total = 0;
  for (int region = 0; region < 2000; ++region) {
    std::atomic<int> count{0};
    pool.run(3, [&](int, int) { count.fetch_add(1); });
    total += count.load();
  }
  EXPECT_EQ(total, 6000);
}

TEST(ThreadPool, SeveralCallersTakeTurns) {
  ThreadPool pool({.workers = 2});
  std::atomic<int> count{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int region = 0; region < 200; ++region)
        pool.run(5, [&](int, int) { count.fetch_add(1); });
    });
  }
  for (auto& caller : callers)
    caller.join();
  EXPECT_EQ(count.load(), 4 * 200 * 5);
}

TEST(ThreadPool, UrgentRegionsRunBetweenTheTasksOfANormalOne) {
  class Asks final : public Interrupt {
   public:
    explicit Asks(ThreadPool& pool) : pool_(pool) {}
    void between_tasks() override {
      pool_.run_urgent(7, [&](int, int worker) {
        EXPECT_LE(worker, pool_.workers());
        urgent.fetch_add(1);
      });
    }
    std::atomic<int> urgent{0};

   private:
    ThreadPool& pool_;
  };
  for (const int workers : {1, 2, 4}) {
    ThreadPool pool({.workers = workers, .pin = false});
    Asks asks(pool);
    for (const int tasks : {1, 2, 50}) {
      asks.urgent = 0;
      std::atomic<int> normal{0};
      int by_caller = 0;  // the others may be so quick that none is left for it
      pool.run(
          tasks,
          [&](int, int worker) {
            normal.fetch_add(1);
            if (worker == 0) ++by_caller;
          },
          &asks);
      EXPECT_EQ(normal.load(), tasks);
      EXPECT_EQ(asks.urgent.load(), 7 * by_caller);
      if (tasks == 1) {
        EXPECT_EQ(by_caller, 1);
      }
    }
  }
}

TEST(ThreadPool, AnUrgentRegionNeedsNoEndOfANormalOne) {
  ThreadPool pool({.workers = 2, .pin = false});
  std::atomic<bool> normal_started{false};
  std::atomic<bool> urgent_done{false};
  std::thread normal([&] {
    // Its tasks do not end before the urgent region has.
    pool.run(2, [&](int, int) {
      normal_started = true;
      while (!urgent_done.load())
        std::this_thread::yield();
    });
  });
  while (!normal_started.load())
    std::this_thread::yield();
  std::atomic<int> tasks{0};
  pool.run_urgent(20, [&](int, int) { tasks.fetch_add(1); });
  EXPECT_EQ(tasks.load(), 20);
  urgent_done = true;
  normal.join();
}

TEST(ThreadPool, UrgentRegionsHaveInterruptsToo) {
  class Counts final : public Interrupt {
   public:
    void between_tasks() override { ++count; }
    int count = 0;
  };
  for (const int workers : {1, 3}) {
    ThreadPool pool({.workers = workers, .pin = false});
    Counts counts;
    int by_caller = 0;
    const auto body = [&](int, int worker) {
      if (worker == pool.workers()) ++by_caller;
    };
    pool.run_urgent(20, body, &counts);
    EXPECT_EQ(counts.count, by_caller);
  }
}

TEST(ThreadPool, UrgentRegionsOvertakeWithinTasksThatPause) {
  class Counts final : public Interrupt {
   public:
    void between_tasks() override { ++count; }
    int count = 0;  // of the caller's thread
  };
  ThreadPool pool({.workers = 2, .pin = false});
  std::atomic<int> started{0};
  std::atomic<bool> urgent_done{false};
  Counts counts;
  std::thread normal([&] {
    pool.run(
        2,
        [&](int, int worker) {
          started.fetch_add(1);
          do {
            pool.pause(worker, &counts);
            std::this_thread::yield();
          } while (!urgent_done.load());
        },
        &counts);
  });
  while (started.load() < 2)
    std::this_thread::yield();
  // Two tasks that wait for each other: one of the workers in a task must come for the second.
  std::atomic<int> met{0};
  pool.run_urgent(2, [&](int, int) {
    met.fetch_add(1);
    while (met.load() < 2)
      std::this_thread::yield();
  });
  urgent_done = true;
  normal.join();
  EXPECT_EQ(met.load(), 2);
  EXPECT_GE(counts.count, 1);
}

TEST(ThreadPool, BothLanesWithManyCallersRunEveryTask) {
  ThreadPool pool({.workers = 3, .pin = false});
  std::atomic<int> count{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&, caller] {
      std::vector<int> hits(9);
      for (int region = 0; region < 300; ++region) {
        const auto body = [&](int task, int) {
          ++hits[static_cast<std::size_t>(task)];
          count.fetch_add(1);
        };
        if (caller % 2 == 0) {
          pool.run(9, body);
        } else {
          pool.run_urgent(9, body);
        }
      }
      EXPECT_EQ(hits, std::vector<int>(9, 300));
    });
  }
  for (auto& caller : callers)
    caller.join();
  EXPECT_EQ(count.load(), 6 * 300 * 9);
}

TEST(ThreadPool, WhoWaitsForItsTurnIsInterruptedNowAndThen) {
  class Notes final : public Interrupt {
   public:
    void between_tasks() override { noted.store(true); }
    std::atomic<bool> noted{false};
  };
  ThreadPool pool({.workers = 2, .pin = false});
  Notes notes;
  std::atomic<bool> inside{false};
  std::thread other([&] {
    while (!inside.load())
      std::this_thread::yield();
    pool.run(
        1, [](int, int) {}, &notes);
  });
  pool.run(1, [&](int, int) {
    inside.store(true);
    while (!notes.noted.load())  // for ever, if the other one only waited
      std::this_thread::yield();
  });
  other.join();
  EXPECT_TRUE(notes.noted.load());
}

TEST(ThreadPool, ACallerThatReturnsAtOnceDoesNotShutOthersOut) {
  ThreadPool pool({.workers = 2, .pin = false});
  std::atomic<bool> other_ran{false};
  std::thread other([&] {
    pool.run(4, [&](int, int) {});
    other_ran = true;
  });
  // Ends only because the other gets its turn.
  while (!other_ran.load())
    pool.run(4, [](int, int) {});
  other.join();
}

}  // namespace
}  // namespace gimbal
