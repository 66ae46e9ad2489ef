#include "server/text_worker.h"

#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace gimbal::server {
namespace {

TEST(TextWorkerTest, RunsWorkInOrder) {
  std::vector<int> order;
  std::promise<void> done;
  TextWorker worker(1000);  // last, so that its thread ends before what its work uses
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(worker.submit(1, [&order, i] { order.push_back(i); }));
  }
  ASSERT_TRUE(worker.submit(1, [&done] { done.set_value(); }));
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(TextWorkerTest, BoundsTheBytesThatWaitButTakesAnySizeWhenIdle) {
  std::promise<void> release;
  std::promise<void> started;
  TextWorker worker(10);  // last, so that its thread ends before what its work uses
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
