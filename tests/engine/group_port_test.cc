// What a rank's port does where the others do not run.

#include "engine/group_port.h"

#include <gtest/gtest.h>

#include "engine_fixture.h"

namespace gimbal::engine {
namespace {

using GroupPortTest = EngineFixture;

TEST_F(GroupPortTest, AServiceThatNobodyRunsDoesNotFillUp) {
  const SteadyClock clock;
  const auto group = ExpertGroup::make(
      *model_, {.ranks = 2, .executor = {.max_batch_rows = 8}, .shared_workers = false}, clock);
  ASSERT_TRUE(group.ok()) << group.error().message;
  GroupPort port(**group, Rank{0}, {.pool = pool_});
  const std::uint64_t alone = sched::rank_bit(Rank{0});
  for (std::uint64_t step = 1; step <= 10'000; ++step)
    port.leave(step, alone);  // the services of both ranks hear of it
  EXPECT_TRUE((*group)->station(Rank{1}).has_room(Rank{0}, 0));
}

// Ports tell maps apart by their versions: none may come twice, or be taken for another.
TEST_F(GroupPortTest, VersionsOfMapsRiseAndEnd) {
  const SteadyClock clock;
  const auto made =
      ExpertGroup::make(*model_, {.ranks = 2, .executor = {.max_batch_rows = 8}}, clock);
  ASSERT_TRUE(made.ok()) << made.error().message;
  ExpertGroup& group = **made;
  const GroupPort port(group, Rank{0}, {.pool = pool_});
  const auto swap = [&](std::uint32_t version) {
    policy::ExpertMap map = *group.map();
    map.set_version(version);
    return group.set_map(std::move(map));
  };
  EXPECT_EQ(group.map_version(), 1U);
  EXPECT_EQ(swap(0).value(), 2U);  // an older one gets the next
  EXPECT_EQ(swap(2).value(), 3U);  // one that was is no exception
  EXPECT_EQ(swap(7).value(), 7U);
  EXPECT_EQ(port.map_version(), 7U);
  for (const std::uint32_t version : {policy::kMostMapVersion + 1, ~std::uint32_t{0}}) {
    const auto refused = swap(version);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().field, "version");
    EXPECT_EQ(group.map_version(), 7U);
  }
  EXPECT_EQ(swap(policy::kMostMapVersion).value(), policy::kMostMapVersion);
  EXPECT_EQ(port.map_version(), policy::kMostMapVersion);
  const auto end = swap(0);
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().message,
            "the expert map's version must be at most 2147483647, would be 2147483648");
  // A rank that goes takes the map on all the same.
  EXPECT_TRUE(group.retire(Rank{1}));
  EXPECT_EQ(port.map_version(), policy::kMostMapVersion + 1);
  EXPECT_TRUE(group.map()->taken_out(Rank{1}));
}

}  // namespace
}  // namespace gimbal::engine
