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

}  // namespace
}  // namespace gimbal::engine
