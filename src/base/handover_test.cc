#include "base/handover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <thread>
#include <vector>

namespace gimbal {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

void give(Handover<int>& handover, std::vector<int> items) {
  handover.give(items);
}

TEST(Handover, ItemsComeInTheOrderInWhichTheyWereGiven) {
  Handover<int> handover;
  std::vector<int> taken{7};
  handover.take(taken);
  EXPECT_THAT(taken, ElementsAre(7));
  give(handover, {1, 2});
  give(handover, {});
  give(handover, {3});
  give(handover, {4, 5, 6});
  handover.take(taken);
  EXPECT_THAT(taken, ElementsAre(7, 1, 2, 3, 4, 5, 6));
  taken.clear();
  handover.take(taken);
  EXPECT_THAT(taken, IsEmpty());
  give(handover, {8});
  handover.take(taken);
  EXPECT_THAT(taken, ElementsAre(8));
}

TEST(Handover, WhatNobodyTakesIsFreed) {
  const auto shared = std::make_shared<int>(1);
  {
    Handover<std::shared_ptr<int>> handover;
    const std::vector<std::shared_ptr<int>> items(3, shared);
    for (int i = 0; i < 20'000; ++i)  // also where there is much of it
      handover.give(items);
    EXPECT_EQ(shared.use_count(), 60'004);
  }
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(Handover, ThreadsLoseNothingAndEachKeepsItsOrder) {
  constexpr int kGivers = 3;
  constexpr int kItems = 20'000;
  Handover<std::array<int, 2>> handover;  // {giver, number}
  std::vector<std::jthread> givers;       // joined whatever fails
  for (int giver = 0; giver < kGivers; ++giver) {
    givers.emplace_back([&handover, giver] {
      for (int number = 0; number < kItems; number += 2) {
        const std::array<std::array<int, 2>, 2> items{{{giver, number}, {giver, number + 1}}};
        handover.give(items);
      }
    });
  }
  std::array<int, kGivers> next{};
  std::vector<std::array<int, 2>> taken;
  for (int seen = 0; seen < kGivers * kItems; seen += static_cast<int>(taken.size())) {
    taken.clear();
    handover.take(taken);
    for (const auto& [giver, number] : taken)
      ASSERT_EQ(number, next[static_cast<std::size_t>(giver)]++);
    std::this_thread::yield();
  }
  for (std::jthread& giver : givers)
    giver.join();
}

}  // namespace
}  // namespace gimbal
