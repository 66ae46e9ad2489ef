#include "policy/expert_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>

#include "base/random.h"

namespace gimbal::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int> ranks_of_experts(const ExpertMap& map, int layer) {
  std::vector<int> ranks;
  for (int expert = 0; expert < map.experts(LayerIndex{layer}); ++expert) {
    EXPECT_EQ(map.shares(LayerIndex{layer}, ExpertId{expert}).size(), 1u);
    ranks.push_back(map.shares(LayerIndex{layer}, ExpertId{expert})[0].rank.value());
  }
  return ranks;
}

ExpertPlacement entry(int layer, int expert, int rank, double fraction = 1) {
  return {LayerIndex{layer}, ExpertId{expert}, Rank{rank}, fraction};
}

// Each expert on some distinct ranks with random fractions.
std::vector<ExpertPlacement> random_entries(Rng& rng, const ExpertMapShape& shape) {
  std::vector<ExpertPlacement> entries;
  std::vector<int> ranks(static_cast<std::size_t>(shape.ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  for (std::size_t layer = 0; layer < shape.experts_of_layer.size(); ++layer) {
    for (int expert = 0; expert < shape.experts_of_layer[layer]; ++expert) {
      std::shuffle(ranks.begin(), ranks.end(), rng);
      const auto copies = 1 + rng.below(static_cast<std::uint64_t>(shape.ranks));
      std::vector<double> weights;
      for (std::uint64_t i = 0; i < copies; ++i)
        weights.push_back(0.01 + rng.uniform());
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (std::uint64_t i = 0; i < copies; ++i)
        entries.push_back(entry(static_cast<int>(layer), expert, ranks[i], weights[i] / sum));
    }
  }
  return entries;
}

void expect_invariants(const ExpertMap& map) {
  for (int layer = 0; layer < map.layers(); ++layer) {
    for (int expert = 0; expert < map.experts(LayerIndex{layer}); ++expert) {
      const auto shares = map.shares(LayerIndex{layer}, ExpertId{expert});
      ASSERT_FALSE(shares.empty());
      double sum = 0;
      for (const ExpertShare& share : shares) {
        sum += share.fraction;
        EXPECT_GT(share.fraction, 0);
        EXPECT_FALSE(map.taken_out(share.rank));
        EXPECT_TRUE(map.holds(LayerIndex{layer}, ExpertId{expert}, share.rank));
      }
      EXPECT_NEAR(sum, 1, 1e-6);
    }
  }
}

TEST(ExpertMap, LinearGivesTheFirstRanksOneMore) {
  const ExpertMap map = ExpertMap::linear(ExpertMapShape::uniform(2, 8, 3), 5);
  EXPECT_THAT(ranks_of_experts(map, 0), ElementsAre(0, 0, 0, 1, 1, 1, 2, 2));
  EXPECT_THAT(ranks_of_experts(map, 1), ElementsAre(0, 0, 0, 1, 1, 1, 2, 2));
  EXPECT_EQ(map.version(), 5u);
  EXPECT_EQ(map.copies_on(LayerIndex{0}, Rank{1}), 3);
  EXPECT_EQ(map.copies_on(LayerIndex{0}, Rank{2}), 2);
}

TEST(ExpertMap, LinearOnMoreRanksThanExpertsLeavesTheLastRanksEmpty) {
  const ExpertMap map = ExpertMap::linear(ExpertMapShape::uniform(1, 2, 4));
  EXPECT_THAT(ranks_of_experts(map, 0), ElementsAre(0, 1));
  EXPECT_EQ(map.copies_on(LayerIndex{0}, Rank{3}), 0);
}

TEST(ExpertMap, LayersMayHaveNoExpertsOrDifferentNumbers) {
  const ExpertMap map = ExpertMap::linear({.experts_of_layer = {0, 4, 0, 2}, .ranks = 2});
  EXPECT_EQ(map.layers(), 4);
  EXPECT_EQ(map.experts(LayerIndex{0}), 0);
  EXPECT_THAT(ranks_of_experts(map, 1), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(ranks_of_experts(map, 3), ElementsAre(0, 1));
  EXPECT_EQ(map.destination(LayerIndex{3}, ExpertId{1}, 17), Rank{1});
}

TEST(ExpertMap, MapsThatSendRowsAlikeHaveOneFingerprint) {
  const ExpertMapShape shape = ExpertMapShape::uniform(3, 6, 3);
  const ExpertMap linear = ExpertMap::linear(shape, 1);
  EXPECT_EQ(linear.fingerprint(), ExpertMap::linear(shape, 9).fingerprint());
  EXPECT_NE(linear.fingerprint(),
            ExpertMap::linear(ExpertMapShape::uniform(3, 6, 2)).fingerprint());
  EXPECT_NE(linear.fingerprint(),
            ExpertMap::linear(ExpertMapShape::uniform(2, 9, 3)).fingerprint());
  EXPECT_NE(linear.fingerprint(), linear.without_rank(Rank{1}).fingerprint());
  Rng rng(3);
  std::map<std::uint64_t, ExpertMap> seen;
  for (int i = 0; i < 200; ++i) {
    const auto map = ExpertMap::make(shape, 1, random_entries(rng, shape));
    ASSERT_TRUE(map.ok());
    const auto [at, fresh] = seen.emplace(map->fingerprint(), *map);
    EXPECT_TRUE(fresh || at->second == *map);
  }
}

TEST(ExpertMap, OneReplicaTakesEveryRow) {
  const ExpertMap map = ExpertMap::linear(ExpertMapShape::uniform(1, 6, 3));
  for (std::uint64_t key = 0; key < 100; ++key)
    EXPECT_EQ(map.destination(LayerIndex{0}, ExpertId{3}, key), Rank{1});
}

TEST(ExpertMap, MakeKeepsTheOrderOfAnExpertsEntries) {
  const ExpertMap map =
      ExpertMap::make(ExpertMapShape::uniform(1, 2, 3), 9,
                      std::vector{entry(0, 1, 2, 0.25), entry(0, 0, 1), entry(0, 1, 0, 0.75)})
          .value();
  EXPECT_THAT(map.shares(LayerIndex{0}, ExpertId{1}),
              ElementsAre(ExpertShare{Rank{2}, 0.25}, ExpertShare{Rank{0}, 0.75}));
  EXPECT_FALSE(map.holds(LayerIndex{0}, ExpertId{1}, Rank{1}));
  EXPECT_EQ(map.copies_on(LayerIndex{0}, Rank{0}), 1);
}

TEST(ExpertMap, MakeNamesWhatIsWrong) {
  struct Case {
    std::vector<ExpertPlacement> entries;
    std::string field;
    std::string message;
  };
  const double nan = std::nan("");
  const std::vector<Case> cases = {
      {{entry(0, 0, 0)}, "rank", "layer 0, expert 1: rank must be given"},
      {{entry(0, 0, 0), entry(0, 1, 2)},
       "rank",
       "layer 0, expert 1: rank must be from 0 to 1, is 2"},
      {{entry(0, 0, -1)}, "rank", "is -1"},
      {{entry(2, 0, 0)}, "layer", "layer must be from 0 to 1, is 2"},
      {{entry(-1, 0, 0)}, "layer", "is -1"},
      {{entry(0, 2, 0)}, "expert", "expert must be from 0 to 1, is 2"},
      {{entry(0, -5, 0)}, "expert", "is -5"},
      {{entry(1, 0, 0)}, "expert", "layer 1, expert 0: expert is in a layer without experts"},
      {{entry(0, 0, 0, 0)}, "fraction", "fraction must be above 0 and at most 1, is 0"},
      {{entry(0, 0, 0, -0.5)}, "fraction", "is -0.5"},
      {{entry(0, 0, 0, 1.5)}, "fraction", "is 1.5"},
      {{entry(0, 0, 0, nan)}, "fraction", "is nan"},
      {{entry(0, 0, 0, 0.5), entry(0, 0, 0, 0.5), entry(0, 1, 0)}, "rank", "is given twice: 0"},
      {{entry(0, 0, 0, 0.5), entry(0, 0, 1, 0.4), entry(0, 1, 0)}, "fraction", "sums to 0.9"},
      {{entry(0, 0, 0), entry(0, 0, 1), entry(0, 1, 0)}, "fraction", "sums to 2"},
      {{entry(0, 0, 0, 1 - 2e-6), entry(0, 1, 0)}, "fraction", "must sum to 1"},
  };
  for (const Case& wrong : cases) {
    const auto map = ExpertMap::make({.experts_of_layer = {2, 0}, .ranks = 2}, 0, wrong.entries);
    ASSERT_FALSE(map.ok()) << wrong.message;
    EXPECT_THAT(map.error().message, HasSubstr(wrong.message));
    EXPECT_EQ(map.error().field, wrong.field) << wrong.message;
    EXPECT_EQ(map.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(ExpertMap, FractionsMayBeOffByRounding) {
  const double third = 0.3333333;
  const auto map = ExpertMap::make(
      ExpertMapShape::uniform(1, 1, 3), 0,
      std::vector{entry(0, 0, 0, third), entry(0, 0, 1, third), entry(0, 0, 2, third)});
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_EQ(map->destination(LayerIndex{0}, ExpertId{0}, ~std::uint64_t{0}).value() / 3, 0);
}

TEST(ExpertMap, DestinationsMeetTheFractions) {
  Rng rng(7);
  for (int trial = 0; trial < 50; ++trial) {
    const ExpertMapShape shape = ExpertMapShape::uniform(2, 5, 1 + static_cast<int>(rng.below(6)));
    const ExpertMap map = ExpertMap::make(shape, 1, random_entries(rng, shape)).value();
    const LayerIndex layer{static_cast<int>(rng.below(2))};
    const ExpertId expert{static_cast<int>(rng.below(5))};
    const std::uint64_t start = rng();
    constexpr int kRows = 20'000;
    for (const bool counting_up : {true, false}) {
      std::map<Rank, int> taken;
      for (int i = 0; i < kRows; ++i) {
        const std::uint64_t key = counting_up ? start + static_cast<std::uint64_t>(i) : rng();
        const Rank rank = map.destination(layer, expert, key);
        EXPECT_EQ(map.destination(layer, expert, key), rank);
        ++taken[rank];
      }
      int rows = 0;
      for (const ExpertShare& share : map.shares(layer, expert)) {
        rows += taken[share.rank];
        // Keys that count up: a handful of rows off. Random ones: five standard deviations.
        EXPECT_NEAR(taken[share.rank], share.fraction * kRows,
                    counting_up ? 20 : 5 * std::sqrt(kRows) / 2);
      }
      EXPECT_EQ(rows, kRows);
    }
  }
}

TEST(ExpertMap, FewRowsInARowAreSplitEvenly) {
  const ExpertMap map = ExpertMap::make(ExpertMapShape::uniform(1, 1, 2), 0,
                                        std::vector{entry(0, 0, 0, 0.5), entry(0, 0, 1, 0.5)})
                            .value();
  for (std::uint64_t start = 0; start < 1000; start += 7) {
    int first = 0;
    for (std::uint64_t key = start; key < start + 32; ++key)
      first += map.destination(LayerIndex{0}, ExpertId{0}, key) == Rank{0} ? 1 : 0;
    EXPECT_NEAR(first, 16, 3);
  }
}

TEST(ExpertMap, ADeadRanksRowsGoToTheOtherReplicasInProportion) {
  const ExpertMap map = ExpertMap::make(ExpertMapShape::uniform(1, 2, 3), 4,
                                        std::vector{entry(0, 0, 0, 0.5), entry(0, 0, 1, 0.4),
                                                    entry(0, 0, 2, 0.1), entry(0, 1, 2)})
                            .value();
  const ExpertMap left = map.without_rank(Rank{0});
  EXPECT_EQ(left.version(), 5u);
  ASSERT_EQ(left.shares(LayerIndex{0}, ExpertId{0}).size(), 2u);
  EXPECT_EQ(left.shares(LayerIndex{0}, ExpertId{0})[0].rank, Rank{1});
  EXPECT_DOUBLE_EQ(left.shares(LayerIndex{0}, ExpertId{0})[0].fraction, 0.8);
  EXPECT_DOUBLE_EQ(left.shares(LayerIndex{0}, ExpertId{0})[1].fraction, 0.2);
  EXPECT_THAT(left.shares(LayerIndex{0}, ExpertId{1}), ElementsAre(ExpertShare{Rank{2}, 1}));
  EXPECT_TRUE(left.taken_out(Rank{0}));
}

TEST(ExpertMap, OrphansGoToTheSurvivorWithFewestCopies) {
  // Copies in layer 0: rank 0 has 2, rank 1 has 1, rank 2 has 3; rank 2 dies.
  const ExpertMap map = ExpertMap::make(ExpertMapShape::uniform(1, 6, 3), 0,
                                        std::vector{entry(0, 0, 0), entry(0, 1, 0), entry(0, 2, 1),
                                                    entry(0, 3, 2), entry(0, 4, 2), entry(0, 5, 2)})
                            .value();
  EXPECT_THAT(ranks_of_experts(map.without_rank(Rank{2}), 0), ElementsAre(0, 0, 1, 1, 0, 1));
}

TEST(ExpertMap, RanksThatDieOneAfterAnotherStayOut) {
  Rng rng(11);
  for (int trial = 0; trial < 100; ++trial) {
    const ExpertMapShape shape = ExpertMapShape::uniform(3, 1 + static_cast<int>(rng.below(9)),
                                                         2 + static_cast<int>(rng.below(5)));
    ExpertMap map = ExpertMap::make(shape, 0, random_entries(rng, shape)).value();
    std::vector<int> order(static_cast<std::size_t>(shape.ranks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng);
    for (std::size_t i = 0; i + 1 < order.size(); ++i) {
      const ExpertMap before = map;
      map = map.without_rank(Rank{order[i]});
      EXPECT_EQ(map.version(), before.version() + 1);
      expect_invariants(map);
      for (int layer = 0; layer < map.layers(); ++layer) {
        for (int expert = 0; expert < map.experts(LayerIndex{layer}); ++expert) {
          if (before.holds(LayerIndex{layer}, ExpertId{expert}, Rank{order[i]})) continue;
          EXPECT_TRUE(std::ranges::equal(before.shares(LayerIndex{layer}, ExpertId{expert}),
                                         map.shares(LayerIndex{layer}, ExpertId{expert})));
        }
      }
    }
  }
}

using ExpertMapDeathTest = testing::Test;

TEST(ExpertMap, TheNextMapHasALaterVersionAndLeavesOutWhoIsGone) {
  const ExpertMapShape shape = ExpertMapShape::uniform(2, 4, 3);
  const ExpertMap now = ExpertMap::linear(shape, 7);
  const auto nobody = [](Rank) { return false; };
  const auto second = [](Rank rank) { return rank == Rank{1}; };

  EXPECT_EQ(next_expert_map(now, ExpertMap::linear(shape, 0), nobody)->version(), 8U);
  EXPECT_EQ(next_expert_map(now, ExpertMap::linear(shape, 7), nobody)->version(), 8U);
  EXPECT_EQ(next_expert_map(now, ExpertMap::linear(shape, 20), nobody)->version(), 20U);

  const auto other =
      next_expert_map(now, ExpertMap::linear(ExpertMapShape::uniform(3, 4, 3)), nobody);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().field, "expert_map");
  EXPECT_THAT(other.error().message, HasSubstr("must be of 2 layers and 3 ranks"));
  const auto occupied = next_expert_map(now, ExpertMap::linear(shape), second);
  ASSERT_FALSE(occupied.ok());
  EXPECT_EQ(occupied.error().field, "rank");
  EXPECT_THAT(occupied.error().message, HasSubstr("must leave out rank 1, which is gone"));
  const auto late = next_expert_map(now, ExpertMap::linear(shape, kMostMapVersion + 1), nobody);
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().field, "version");
  EXPECT_TRUE(next_expert_map(now, ExpertMap::linear(shape, kMostMapVersion), nobody).ok());

  std::vector<ExpertPlacement> entries;
  for (int layer = 0; layer < 2; ++layer) {
    for (int expert = 0; expert < 4; ++expert)
      entries.push_back(entry(layer, expert, expert % 2 == 0 ? 0 : 2));
  }
  const auto without = next_expert_map(now, *ExpertMap::make(shape, 0, entries), second);
  ASSERT_TRUE(without.ok());
  EXPECT_EQ(without->version(), 8U);
  EXPECT_TRUE(without->taken_out(Rank{1}));
  // It stays out when another one goes.
  EXPECT_EQ(without->without_rank(Rank{0}).copies_on(LayerIndex{0}, Rank{1}), 0);
}

TEST(ExpertMapDeathTest, TheLastRankCannotDie) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const ExpertMap map = ExpertMap::linear(ExpertMapShape::uniform(1, 2, 2));
  EXPECT_DEATH((void)map.without_rank(Rank{0}).without_rank(Rank{1}), "no rank survives");
  EXPECT_DEATH((void)map.without_rank(Rank{2}), "");
}

}  // namespace
}  // namespace gimbal::policy
