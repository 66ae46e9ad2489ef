#include "live/live_experts.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "live/live_engine_fixture.h"

namespace gimbal::live {
namespace {

using sched::FinishReason;

using LiveExpertsTest = LiveEngineTest;

TEST_F(LiveExpertsTest, EnginesThatShareExpertsShowThemAndTakeAMap) {
  start({.engines = 2, .ranks = 2});
  for (std::uint64_t id = 1; id <= 8; ++id)
    submit(request_of(id, 30, 20, static_cast<TokenId>(40 * id)));
  run();
  cluster::ExpertInspector* const experts = engine->experts();
  ASSERT_NE(experts, nullptr);
  const auto groups = experts->expert_groups();
  ASSERT_EQ(groups.size(), 1U);
  ASSERT_EQ(groups[0].services.size(), 2U);
  EXPECT_GT(groups[0].gang.gang_steps, 0U);
  std::uint64_t ran = 0;
  std::uint64_t expected = 0;
  for (const cluster::ServiceReading& service : groups[0].services)
    ran += service.rows;
  for (int layer = 0; layer < 4; ++layer) {
    for (int cell = 0; cell < 2 * 2 * 8; ++cell) {
      expected += experts->expert_traffic(0, Rank{cell % 2}, LayerIndex{layer}, Rank{cell / 2 % 2},
                                          ExpertId{cell / 4});
    }
  }
  EXPECT_GT(ran, 0U);
  EXPECT_NEAR(static_cast<double>(expected), static_cast<double>(ran), 0.05 * ran);

  // All experts at rank 1: the other one's service does nothing from now on.
  const auto before = experts->expert_map(0);
  std::vector<policy::ExpertPlacement> entries;
  for (int layer = 0; layer < 4; ++layer) {
    for (int expert = 0; expert < 8; ++expert)
      entries.push_back({LayerIndex{layer}, ExpertId{expert}, Rank{1}});
  }
  const auto map = policy::ExpertMap::make(before->shape(), 0, entries).value();
  const auto version = experts->set_expert_map(0, map);
  ASSERT_TRUE(version.ok()) << version.error().message;
  EXPECT_GT(*version, before->version());
  submit(request_of(9, 30, 20));
  run();
  const auto after = experts->expert_groups();
  EXPECT_EQ(after[0].services[0].rows, groups[0].services[0].rows);
  EXPECT_GT(after[0].services[1].rows, groups[0].services[1].rows);
  const auto wrong = policy::ExpertMap::linear(policy::ExpertMapShape::uniform(4, 8, 3));
  EXPECT_EQ(experts->set_expert_map(0, wrong).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(LiveExpertsTest, AMapMayNotUseARankThatIsGone) {
  start({.engines = 2,
         .ranks = 2,
         .script = {{.kind = sim::ScriptEvent::Kind::kFail,
                     .at = std::chrono::milliseconds(5),
                     .engine = EngineId{1}}}});
  run(std::chrono::milliseconds(10));
  cluster::ExpertInspector* const experts = engine->experts();
  const auto map = experts->expert_map(0);
  EXPECT_TRUE(map->taken_out(Rank{1}));
  EXPECT_FALSE(experts->set_expert_map(0, policy::ExpertMap::linear(map->shape())).ok());
  EXPECT_TRUE(experts->set_expert_map(0, *map).ok());
  EXPECT_TRUE(experts->expert_map(0)->taken_out(Rank{1}));
  EXPECT_FALSE(experts->expert_groups()[0].services[1].alive);
}

TEST_F(LiveExpertsTest, AGroupMayFailWhole) {
  start({.engines = 2,
         .ranks = 2,
         .script = {{.kind = sim::ScriptEvent::Kind::kFail,
                     .at = std::chrono::milliseconds(5),
                     .engine = EngineId{1}},
                    {.kind = sim::ScriptEvent::Kind::kFail,
                     .at = std::chrono::milliseconds(9),
                     .engine = EngineId{0}}}});
  submit(request_of(1, 30, 100));
  submit(request_of(2, 30, 100));
  run();
  EXPECT_EQ(sink->of(1).finish, FinishReason::kFailed);
  EXPECT_EQ(sink->of(2).finish, FinishReason::kFailed);
  EXPECT_FALSE(engine->healthy(nullptr));
}

}  // namespace
}  // namespace gimbal::live
