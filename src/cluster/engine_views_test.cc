// Which engines a user's expert rows are local to, as the dispatcher learns and shows it.

#include "cluster/engine_views.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "cluster/dispatcher_fixture.h"

namespace gimbal::cluster {
namespace {

using Shares = std::vector<std::optional<double>>;

constexpr std::uint64_t kMap = 77;

DispatcherOptions two_groups() {
  return {.engines = 5, .groups = {0, 0, 1, 1, 2}};
}

// One request of the user: where it goes, and what share of the user's rows each engine showed.
struct Sent {
  int engine = -1;
  Shares shares;
};
Sent send(Dispatcher& dispatcher, std::uint64_t id, std::uint64_t user, double now = 0,
          int pinned = -1) {
  sched::Request made = request(id, 20, user);
  made.pinned_engine = pinned;
  EXPECT_TRUE(dispatcher.submit({std::move(made)}, at_ms(now)).ok());
  const auto dispatched = dispatcher.next(at_ms(now));
  EXPECT_TRUE(dispatched);
  Sent sent{.engine = dispatched ? dispatched->engine.value() : -1, .shares = {}};
  for (const policy::EngineView& view : dispatcher.log().records().back().engines)
    sent.shares.push_back(view.local_share);
  return sent;
}

void end(Dispatcher& dispatcher, std::uint64_t id, const ExpertRows& rows) {
  dispatcher.note_expert_rows(RequestId{id}, rows);
  dispatcher.note_end(RequestId{id});
}

void note_maps(Dispatcher& dispatcher, const std::vector<std::uint64_t>& maps) {
  for (std::size_t i = 0; i < maps.size(); ++i)
    dispatcher.note_expert_map(EngineId{static_cast<EngineId::rep>(i)}, maps[i]);
}

TEST(EngineViewsTest, AUsersRowsAreLocalByRankInEveryGroupWithTheirMap) {
  auto dispatcher = make(two_groups());
  note_maps(*dispatcher, {kMap, kMap, kMap, kMap});
  EXPECT_EQ(send(*dispatcher, 1, 9, 0, 3).shares, Shares(5));
  end(*dispatcher, 1, {.map = kMap, .by_rank = {30, 10}});
  EXPECT_EQ(send(*dispatcher, 2, 9, 0, 0).shares, (Shares{0.75, 0.25, 0.75, 0.25, std::nullopt}));
  EXPECT_EQ(send(*dispatcher, 3, 8).shares, Shares(5));  // of another user nothing is known
  // Newer requests count a quarter.
  end(*dispatcher, 2, {.map = kMap, .by_rank = {30, 50}});
  EXPECT_EQ(send(*dispatcher, 4, 9).shares, (Shares{0.6, 0.4, 0.6, 0.4, std::nullopt}));
  // The second group has other experts at its ranks by now.
  note_maps(*dispatcher, {kMap, kMap, kMap + 1, kMap + 1});
  EXPECT_EQ(send(*dispatcher, 5, 9).shares,
            (Shares{0.6, 0.4, std::nullopt, std::nullopt, std::nullopt}));
}

TEST(EngineViewsTest, WhatAnotherMapMadeOfAUsersRowsIsForgotten) {
  auto dispatcher = make({.engines = 2, .groups = {0, 0}});
  EXPECT_EQ(send(*dispatcher, 1, 9).shares, Shares(2));
  end(*dispatcher, 1, {.map = kMap, .by_rank = {1, 3}});  // its map is not known
  note_maps(*dispatcher, {kMap, kMap});
  EXPECT_EQ(send(*dispatcher, 2, 9).shares, Shares(2));
  EXPECT_EQ(send(*dispatcher, 3, 9).shares, Shares(2));
  end(*dispatcher, 2, {.map = kMap, .by_rank = {1, 3}});
  EXPECT_EQ(send(*dispatcher, 4, 9).shares, (Shares{0.25, 0.75}));
  note_maps(*dispatcher, {kMap + 1, kMap + 1});
  EXPECT_EQ(send(*dispatcher, 5, 9).shares, Shares(2));
  end(*dispatcher, 4, {.map = kMap + 1, .by_rank = {8, 0}});
  EXPECT_EQ(send(*dispatcher, 6, 9).shares, (Shares{1.0, 0.0}));
  end(*dispatcher, 3, {.map = kMap, .by_rank = {1, 3}});  // late, and of the old one
  EXPECT_EQ(send(*dispatcher, 7, 9).shares, (Shares{1.0, 0.0}));
}

TEST(EngineViewsTest, RowsOfUnknownRequestsAndNoRowsSayNothing) {
  auto dispatcher = make({.engines = 2, .groups = {0, 0}});
  note_maps(*dispatcher, {kMap, kMap});
  end(*dispatcher, 1, {.map = kMap, .by_rank = {1, 3}});
  EXPECT_EQ(send(*dispatcher, 1, 9).shares, Shares(2));
  end(*dispatcher, 1, {.map = kMap, .by_rank = {0, 0}});
  EXPECT_EQ(send(*dispatcher, 2, 9).shares, Shares(2));
  end(*dispatcher, 2, {.map = kMap, .by_rank = {5}});  // of one rank, where there are two
  EXPECT_EQ(send(*dispatcher, 3, 9).shares, (Shares{1.0, std::nullopt}));
}

TEST(EngineViewsTest, RowsAreForgottenWithTheSession) {
  auto dispatcher = make({.engines = 2, .groups = {0, 0}});
  note_maps(*dispatcher, {kMap, kMap});
  const double session = to_ms(StickyUsersOptions{}.session);
  send(*dispatcher, 1, 9, 0);
  end(*dispatcher, 1, {.map = kMap, .by_rank = {1, 3}});
  EXPECT_EQ(send(*dispatcher, 2, 9, session).shares, (Shares{0.25, 0.75}));
  EXPECT_EQ(send(*dispatcher, 3, 9, 2 * session + 1).shares, Shares(2));
}

TEST(EngineViewsTest, AUserGoesWhereItsRowsAreLocalIfAnExchangeCosts) {
  for (const double exchange : {0.0, 1.0}) {
    auto dispatcher =
        make({.engines = 2, .rule_options = {.exchange_ms_per_token = exchange}, .groups = {0, 0}});
    note_maps(*dispatcher, {kMap, kMap});
    for (int engine = 0; engine < 2; ++engine) {
      EngineSnapshot said = snapshot(2);
      said.finished_requests = 10;  // o = 100
      said.finished_output_tokens = 1000;
      dispatcher->note_snapshot(EngineId{engine}, said);
    }
    int there = 0;
    for (std::uint64_t id = 1; id <= 40; ++id) {
      there += send(*dispatcher, id, 9).engine;
      end(*dispatcher, id, {.map = kMap, .by_rank = {10, 30}});
    }
    // The first one's way is open. For the others o·1 ms·(0.75 − 0.5) are 25 ms; else a coin
    // decides.
    if (exchange > 0) {
      EXPECT_GE(there, 39);
    } else {
      EXPECT_GT(there, 5);
      EXPECT_LT(there, 35);
    }
  }
}

}  // namespace
}  // namespace gimbal::cluster
