#include "cluster/sticky_users.h"

#include <gtest/gtest.h>

namespace gimbal::cluster {
namespace {

TimePoint at_minutes(int minutes) {
  return TimePoint{std::chrono::minutes(minutes)};
}

TEST(StickyUsersTest, KnowsWhereAUserWasWithinTheSession) {
  StickyUsers users({});
  EXPECT_FALSE(users.look(1, at_minutes(0)).engine);
  EXPECT_EQ(users.look(1, at_minutes(0)).return_probability, 0.5);
  users.note(1, EngineId{3}, at_minutes(0));
  EXPECT_EQ(users.look(1, at_minutes(10)).engine, EngineId{3});
  EXPECT_FALSE(users.look(1, at_minutes(11)).engine);
  users.note(1, EngineId{4}, at_minutes(5));
  EXPECT_EQ(users.look(1, at_minutes(15)).engine, EngineId{4});
}

TEST(StickyUsersTest, LearnsWhetherAndHowSoonAUserReturns) {
  StickyUsers users({});
  users.note(1, EngineId{0}, at_minutes(0));
  const auto back = users.look(1, at_minutes(2));
  EXPECT_DOUBLE_EQ(back.return_probability, 0.5 + 0.25 * 0.5);
  EXPECT_DOUBLE_EQ(*back.mean_return_ms, 2 * 60'000);
  users.note(1, EngineId{0}, at_minutes(2));
  EXPECT_DOUBLE_EQ(*users.look(1, at_minutes(8)).mean_return_ms, 120'000 + 0.25 * 240'000);
  // Out of the session: it counts as not having returned, and the mean stays.
  const auto late = users.look(1, at_minutes(100));
  EXPECT_DOUBLE_EQ(late.return_probability, 0.75 * 0.625);
  EXPECT_DOUBLE_EQ(*late.mean_return_ms, 120'000);
}

TEST(StickyUsersTest, ForgetsTheLeastRecentlySeen) {
  StickyUsers users({.most_users = 2});
  users.note(1, EngineId{1}, at_minutes(0));
  users.note(2, EngineId{2}, at_minutes(1));
  users.note(1, EngineId{1}, at_minutes(2));
  users.note(3, EngineId{3}, at_minutes(3));
  EXPECT_EQ(users.size(), 2U);
  EXPECT_FALSE(users.look(2, at_minutes(3)).engine);
  EXPECT_TRUE(users.look(1, at_minutes(3)).engine);
  EXPECT_TRUE(users.look(3, at_minutes(3)).engine);
}

TEST(StickyUsersTest, KnowsWhereAUsersRowsWentWithinTheSession) {
  StickyUsers users({});
  users.note_expert_rows(1, {.map = 5, .by_rank = {1, 1}});  // nobody knows this user
  EXPECT_EQ(users.size(), 0U);
  EXPECT_EQ(users.expert_rows(1, at_minutes(0)), nullptr);
  users.note(1, EngineId{0}, at_minutes(0));
  EXPECT_EQ(users.expert_rows(1, at_minutes(0)), nullptr);
  users.note_expert_rows(1, {.map = 5, .by_rank = {8, 0}});
  users.note_expert_rows(1, {.map = 5, .by_rank = {0, 8}});
  ASSERT_NE(users.expert_rows(1, at_minutes(10)), nullptr);
  EXPECT_EQ(*users.expert_rows(1, at_minutes(10)), (ExpertRows{.map = 5, .by_rank = {6, 2}}));
  EXPECT_EQ(users.expert_rows(1, at_minutes(11)), nullptr);
  users.note(1, EngineId{0}, at_minutes(10));
  EXPECT_NE(users.expert_rows(1, at_minutes(12)), nullptr);
  // Another map, or another number of ranks, begins anew.
  users.note_expert_rows(1, {.map = 6, .by_rank = {0, 4}});
  EXPECT_EQ(users.expert_rows(1, at_minutes(12))->by_rank, (std::vector<double>{0, 4}));
  users.note_expert_rows(1, {.map = 6, .by_rank = {1, 2, 3}});
  EXPECT_EQ(users.expert_rows(1, at_minutes(12))->by_rank, (std::vector<double>{1, 2, 3}));
  // So does a session.
  users.note(1, EngineId{0}, at_minutes(21));
  EXPECT_EQ(users.expert_rows(1, at_minutes(21)), nullptr);
}

TEST(StickyUsersTest, RowsGoWithTheLeastRecentlySeen) {
  StickyUsers users({.most_users = 1});
  users.note(1, EngineId{1}, at_minutes(0));
  users.note_expert_rows(1, {.map = 5, .by_rank = {1, 1}});
  users.note(2, EngineId{1}, at_minutes(1));
  EXPECT_EQ(users.expert_rows(1, at_minutes(1)), nullptr);
  EXPECT_EQ(users.expert_rows(2, at_minutes(1)), nullptr);
}

}  // namespace
}  // namespace gimbal::cluster
