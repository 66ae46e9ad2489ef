#include "sim/event_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/random.h"

namespace gimbal::sim {
namespace {

class Diary final : public EventTarget {
 public:
  explicit Diary(EventQueue& queue) : queue_(queue) {}
  void on_event(std::uint64_t what) override {
    entries.emplace_back(queue_.now().time_since_epoch().count(), what);
  }
  std::vector<std::pair<std::int64_t, std::uint64_t>> entries;

 private:
  EventQueue& queue_;
};

TimePoint at(std::int64_t ns) {
  return TimePoint{Duration{ns}};
}

TEST(EventQueueTest, GoesByTimeAndThenByInsertion) {
  EventQueue queue;
  Diary diary(queue);
  queue.at(at(20), diary, 1);
  queue.at(at(10), diary, 2);
  queue.at(at(20), diary, 3);
  queue.at(at(10), diary, 4);
  while (queue.run_one()) {
  }
  const std::vector<std::pair<std::int64_t, std::uint64_t>> expected{
      {10, 2}, {10, 4}, {20, 1}, {20, 3}};
  EXPECT_EQ(diary.entries, expected);
  EXPECT_EQ(queue.handled(), 4U);
  EXPECT_TRUE(queue.empty());
}

TEST(EventQueueTest, IsAStableSortOfRandomTimes) {
  EventQueue queue;
  Diary diary(queue);
  Rng rng(1);
  std::vector<std::pair<std::int64_t, std::uint64_t>> expected;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const auto time = static_cast<std::int64_t>(rng.below(50));
    queue.at(at(time), diary, i);
    expected.emplace_back(time, i);
  }
  std::stable_sort(expected.begin(), expected.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  while (queue.run_one()) {
  }
  EXPECT_EQ(diary.entries, expected);
}

TEST(EventQueueTest, TimeMayPassWithoutAnEvent) {
  EventQueue queue;
  Diary diary(queue);
  EXPECT_EQ(queue.next(), std::nullopt);
  queue.skip_to(at(5));
  EXPECT_EQ(queue.now(), at(5));
  queue.at(at(7), diary, 1);
  EXPECT_EQ(queue.next(), at(7));
  queue.skip_to(at(7));
  EXPECT_TRUE(queue.run_one());
  EXPECT_EQ(queue.now(), at(7));
}

TEST(EventQueueDeathTest, SkipsNothing) {
  EventQueue queue;
  Diary diary(queue);
  queue.at(at(7), diary, 1);
  EXPECT_DEATH(queue.skip_to(at(8)), "left behind");
}

TEST(EventQueueDeathTest, RefusesThePast) {
  EventQueue queue;
  Diary diary(queue);
  queue.at(at(10), diary, 1);
  ASSERT_TRUE(queue.run_one());
  queue.at(at(10), diary, 2);  // the present is fine
  EXPECT_DEATH(queue.at(at(9), diary, 3), "past");
}

}  // namespace
}  // namespace gimbal::sim
