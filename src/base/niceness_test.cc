#include "base/niceness.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>

#include "base/thread_pool.h"

namespace gimbal {
namespace {

int niceness_of(pid_t thread) {
  return getpriority(PRIO_PROCESS, static_cast<id_t>(thread));
}

// That of a new thread which has asked for it.
int niceness_after(int by) {
  int found = -1;
  std::thread([&] {
    EXPECT_TRUE(be_nicer(by));
    found = niceness_of(gettid());
  }).join();
  return found;
}

TEST(Niceness, IsAboveThatOfTheProcess) {
  const int own = niceness_of(getpid());
  EXPECT_EQ(niceness_after(0), own);
  EXPECT_EQ(niceness_after(3), std::min(own + 3, 19));
  EXPECT_EQ(niceness_after(100), 19);
  EXPECT_EQ(niceness_of(getpid()), own);  // of the others nothing changes
}

TEST(Niceness, AddsToTheOneThatTheProgramWasStartedWith) {
  EXPECT_EXIT(
      {
        setpriority(PRIO_PROCESS, static_cast<id_t>(getpid()), 7);
        std::exit(niceness_after(5) == 12 && niceness_after(15) == 19 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Niceness, OfAPoolIsThatOfItsOwnThreads) {
  const int own = niceness_of(getpid());
  ThreadPool pool({.workers = 2, .pin = false, .nice = 4});
  std::atomic<int> of_worker{-100};
  // Each task waits for the other, so that both threads take one.
  std::atomic<int> inside{0};
  pool.run(2, [&](int /*task*/, int worker) {
    if (worker != 0) of_worker = niceness_of(gettid());
    ++inside;
    while (inside.load() < 2)
      std::this_thread::yield();
  });
  EXPECT_EQ(of_worker.load(), std::min(own + 4, 19));
  EXPECT_EQ(niceness_of(gettid()), own);
}

}  // namespace
}  // namespace gimbal
