// What a rank's port does where the others do not run.

#include "engine/group_port.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

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

// The batch's sequence goes on with another batch, which is of no gang step: nobody may wait for
// it.
TEST_F(GroupPortTest, ABatchThatIsMergedLeavesItsGangStep) {
  const SteadyClock clock;
  const auto made =
      ExpertGroup::make(*model_, {.ranks = 2, .executor = {.max_batch_rows = 8}}, clock);
  ASSERT_TRUE(made.ok()) << made.error().message;
  ExpertGroup& group = **made;
  GroupPort port(group, Rank{0}, {.pool = pool_});
  GroupPort other(group, Rank{1}, {.pool = pool_});
  const GroupPlace place{.rows = group.rows(), .first_region = 0, .experts = port};
  const model::KvStorage kv(model_->config(), model_->dtype(), 2);
  ModelExecutor executor(*model_, kv, {.pool = pool_}, clock, {.max_batch_rows = 8}, &place);
  const std::vector<TokenId> tokens{1, 2, 3};
  const std::vector<PageId> pages{PageId{0}, PageId{1}};
  const sched::SamplingParams sampling;
  const std::uint64_t both = sched::rank_bit(Rank{0}) | sched::rank_bit(Rank{1});
  for (std::size_t i = 0; i < 2; ++i) {
    executor.start({.batch = BatchId{static_cast<std::uint32_t>(i)},
                    .sequences = {{.request = RequestId{i},
                                   .tokens = tokens,
                                   .rows = 3,
                                   .pages = std::span(pages).subspan(i, 1),
                                   .prompt_tokens = 3,
                                   .sampling = &sampling}},
                    .gang_step = i == 0 ? sched::kSolo : 1,
                    .gang_members = i == 0 ? 0 : both});
  }
  executor.merge(BatchId{0}, BatchId{1});
  // The other member's post for the first layer with experts is held no longer.
  int layer = 0;
  while (!model_->config().is_moe(LayerIndex{layer}))
    ++layer;
  other.post({.source = Rank{1},
              .layer = LayerIndex{layer},
              .step = 1,
              .members = both,
              .map_version = other.map_version(),
              .rows = {},
              .experts = {}});
  (void)other.serve();
  for (const int rank : {0, 1})
    EXPECT_EQ(group.station(Rank{rank}).counters().holds, 1U) << rank;
}

TEST_F(GroupPortTest, AHoldLastsUntilItsDeadline) {
  ManualClock clock;
  const auto made =
      ExpertGroup::make(*model_, {.ranks = 2, .executor = {.max_batch_rows = 8}}, clock);
  ASSERT_TRUE(made.ok()) << made.error().message;
  ExpertGroup& group = **made;
  GroupPort port(group, Rank{0}, {.pool = pool_});
  GroupPort other(group, Rank{1}, {.pool = pool_});
  std::vector<LayerIndex> layers;  // with experts
  for (int layer = 0; layer < model_->config().num_layers(); ++layer) {
    if (model_->config().is_moe(LayerIndex{layer})) layers.emplace_back(layer);
  }
  ASSERT_GE(layers.size(), 2U);
  const auto post = [&](GroupPort& from, std::uint64_t step, LayerIndex layer) {
    from.post({.source = from.rank(),
               .layer = layer,
               .step = step,
               .members = 0b11,
               .map_version = from.map_version(),
               .rows = {},
               .experts = {}});
    (void)from.serve();
  };
  const auto holds = [&] {
    return group.station(Rank{0}).counters().holds + group.station(Rank{1}).counters().holds;
  };
  constexpr Duration kLimit = std::chrono::milliseconds(50);
  port.limit_holds(1, kLimit);
  EXPECT_EQ(port.time_to_next_due(), std::nullopt);
  post(port, 1, layers[0]);
  EXPECT_EQ(port.time_to_next_due(), kLimit);
  clock.advance(kLimit - Duration{1});
  (void)port.serve();
  EXPECT_EQ(holds(), 0U);
  EXPECT_EQ(port.time_to_next_due(), Duration{1});
  clock.advance(Duration{1});
  (void)port.serve();
  EXPECT_EQ(holds(), 2U);
  const sched::GangRelease::Late late{.rank = Rank{1}, .step = 1};
  EXPECT_EQ(port.late(), std::vector({late, late}));  // at both services
  EXPECT_EQ(port.time_to_next_due(), std::nullopt);
  // The step's other layers do not wait for who was late, nor its rows for anybody.
  post(port, 1, layers[1]);
  EXPECT_EQ(holds(), 4U);
  for (const LayerIndex layer : layers)
    post(other, 1, layer);
  EXPECT_EQ(holds(), 4U);
  EXPECT_TRUE(other.late().empty());
  // The next step waits again, without limit if it has none.
  post(port, 2, layers[0]);
  EXPECT_EQ(port.time_to_next_due(), std::nullopt);
  clock.advance(std::chrono::hours(1));
  (void)port.serve();
  EXPECT_EQ(holds(), 4U);
  post(other, 2, layers[0]);
  EXPECT_EQ(holds(), 6U);
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
