#include "server/text_worker.h"

#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace gimbal::server {
namespace {

TEST(TextWorkerTest, RunsWorkInOrder) {
  TextWorker worker(1000);
  std::vector<int> order;
  std::promise<void> done;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(worker.submit(1, [&order, i] { order.push_back(i); }));
  }
  ASSERT_TRUE(worker.submit(1, [&done] { done.set_value(); }));
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(TextWorkerTest, BoundsTheBytesThatWaitButTakesAnySizeWhenIdle) {
  TextWorker worker(10);
  std::promise<void> release;
  std::promise<void> started;
  ASSERT_TRUE(worker.submit(50, [&] {
    started.set_value();
    release.get_future().wait();
  }));
  started.get_future().wait();
  EXPECT_FALSE(worker.submit(1, [] {}));
  release.set_value();
}

}  // namespace
}  // namespace gimbal::server
