#include "engine/expert_row_counts.h"

#include <gtest/gtest.h>

namespace gimbal::engine {
namespace {

using sched::SourceSlot;

policy::ExpertMap map_of(std::uint32_t version, int experts = 4) {
  return policy::ExpertMap::linear(policy::ExpertMapShape::uniform(2, experts, 2), version);
}

TEST(ExpertRowCountsTest, CountsOfASlotBecomeTheRequests) {
  ExpertRowCounts counts(2, 3);
  counts.use_map(map_of(1));
  const RequestId a{7};
  const RequestId b{8};
  for (int pair = 0; pair < 5; ++pair) {
    counts.add(SourceSlot{0}, Rank{pair % 2});
    counts.add(SourceSlot{2}, Rank{1});
  }
  EXPECT_TRUE(counts.take(a).by_rank.empty());
  counts.settle(SourceSlot{0}, a);
  counts.settle(SourceSlot{2}, b);
  counts.add(SourceSlot{2}, Rank{0});  // the next step, in another slot
  counts.settle(SourceSlot{2}, a);
  EXPECT_EQ(counts.requests(), 2U);
  const cluster::ExpertRows rows = counts.take(a);
  EXPECT_EQ(rows.map, map_of(1).fingerprint());
  EXPECT_EQ(rows.by_rank, (std::vector<double>{4, 2}));
  EXPECT_TRUE(counts.take(a).by_rank.empty());
  EXPECT_EQ(counts.take(b).by_rank, (std::vector<double>{0, 5}));
  EXPECT_EQ(counts.requests(), 0U);
}

TEST(ExpertRowCountsTest, WhatIsDiscardedIsNobodys) {
  ExpertRowCounts counts(2, 2);
  counts.add(SourceSlot{1}, Rank{1});
  counts.discard(SourceSlot{1});
  EXPECT_EQ(counts.requests(), 0U);
  counts.add(SourceSlot{1}, Rank{0});
  counts.settle(SourceSlot{1}, RequestId{3});
  EXPECT_EQ(counts.take(RequestId{3}).by_rank, (std::vector<double>{1, 0}));
}

TEST(ExpertRowCountsTest, AnotherMapForgetsAndALaterVersionDoesNot) {
  ExpertRowCounts counts(2, 2);
  counts.use_map(map_of(1));
  const auto count_one = [&counts] {
    counts.add(SourceSlot{0}, Rank{1});
    counts.settle(SourceSlot{0}, RequestId{3});
    counts.add(SourceSlot{1}, Rank{1});  // in mid-step
  };
  count_one();
  counts.use_map(map_of(2));  // rows go where they went
  counts.settle(SourceSlot{1}, RequestId{3});
  EXPECT_EQ(counts.take(RequestId{3}).by_rank, (std::vector<double>{0, 2}));
  count_one();
  counts.use_map(map_of(3, 6));
  EXPECT_EQ(counts.requests(), 0U);
  counts.settle(SourceSlot{1}, RequestId{3});
  const cluster::ExpertRows rows = counts.take(RequestId{3});
  EXPECT_EQ(rows.by_rank, (std::vector<double>{0, 0}));
  EXPECT_EQ(rows.map, map_of(3, 6).fingerprint());
}

}  // namespace
}  // namespace gimbal::engine
