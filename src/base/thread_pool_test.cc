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

}  // namespace
}  // namespace gimbal
