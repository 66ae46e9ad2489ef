#include "cost/expert_load_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "cost/test_routing_shape.h"

namespace gimbal::cost {
namespace {

policy::ExpertMap linear(const RoutingShape& shape, int ranks) {
  return policy::ExpertMap::linear({shape.experts_of_layer, ranks});
}

RoutingModel zipf(const RoutingShape& shape, double exponent, int topics = 1) {
  auto model = RoutingModel::zipf(shape, {.exponent = exponent, .topics = topics, .seed = 6});
  EXPECT_TRUE(model.ok());
  return *model;
}

// What `draws` samples of the tokens give on average: rows and distinct experts of rank 0, and the
// largest over the ranks.
struct Sampled {
  ExpertLoad first;
  ExpertLoad slowest;
};

Sampled sample(const RoutingModel& routing, const policy::ExpertMap& map, LayerIndex layer,
               std::span<const int> tokens, int draws) {
  Rng rng(31);
  Sampled result;
  std::vector<std::uint16_t> experts(static_cast<std::size_t>(routing.experts_per_token()));
  std::uint64_t key = 0;
  for (int i = 0; i < draws; ++i) {
    std::vector<int> rows(static_cast<std::size_t>(map.ranks()));
    std::vector<std::set<int>> distinct(rows.size());
    for (std::size_t topic = 0; topic < tokens.size(); ++topic) {
      for (int token = 0; token < tokens[topic]; ++token) {
        routing.draw(layer, static_cast<int>(topic), rng, experts);
        for (const std::uint16_t expert : experts) {
          const auto rank = static_cast<std::size_t>(
              map.destination(layer, ExpertId{expert}, rng() ^ key++).value());
          ++rows[rank];
          distinct[rank].insert(expert);
        }
      }
    }
    std::size_t most = 0;
    for (const auto& set : distinct)
      most = std::max(most, set.size());
    result.first.rows += static_cast<double>(rows[0]) / draws;
    result.first.distinct += static_cast<double>(distinct[0].size()) / draws;
    result.slowest.rows += static_cast<double>(std::ranges::max(rows)) / draws;
    result.slowest.distinct += static_cast<double>(most) / draws;
  }
  return result;
}

TEST(ExpertLoadTableTest, UniformChoicesByHand) {
  const RoutingShape shape = shape_of(2, 16, 4);
  const ExpertLoadTable table(zipf(shape, 0), linear(shape, 2));
  for (const double n : {1.0, 3.0, 16.0, 64.0}) {
    const std::array tokens{n};
    const ExpertLoad load = table.expected(LayerIndex{1}, tokens, Rank{0});
    EXPECT_NEAR(load.rows, 2 * n, 1e-4 * n);
    EXPECT_NEAR(load.distinct, 8 * (1 - std::pow(0.75, n)), 1e-4);
  }
}

TEST(ExpertLoadTableTest, NothingRunsNothing) {
  RoutingShape shape = shape_of(2, 16, 4);
  shape.experts_of_layer[0] = 0;
  const ExpertLoadTable table(zipf(shape, 0), linear(shape, 2));
  const std::array none{0.0};
  const std::array many{100.0};
  EXPECT_EQ(table.expected(LayerIndex{1}, none, Rank{1}), ExpertLoad{});
  EXPECT_EQ(table.expected(LayerIndex{0}, many, Rank{1}), ExpertLoad{});
  EXPECT_EQ(table.slowest(LayerIndex{1}, none), ExpertLoad{});
  EXPECT_EQ(table.slowest(LayerIndex{0}, many), ExpertLoad{});
}

TEST(ExpertLoadTableTest, PointsBetweenTheTabulatedOnesAreClose) {
  const RoutingShape shape = shape_of(1, 128, 8);
  const RoutingModel routing = zipf(shape, 1);
  const policy::ExpertMap map = linear(shape, 2);
  const ExpertLoadTable table(routing, map);
  Rng rng(3);
  for (int i = 0; i < 300; ++i) {
    const double n = std::exp(rng.uniform() * std::log(2e6));
    double rows = 0;
    double distinct = 0;
    for (std::size_t e = 64; e < 128; ++e) {
      const double p = routing.inclusion(LayerIndex{0}, 0)[e];
      rows += n * p;
      distinct += 1 - std::pow(1 - p, n);
    }
    const std::array tokens{n};
    const ExpertLoad load = table.expected(LayerIndex{0}, tokens, Rank{1});
    EXPECT_NEAR(load.rows, rows, 1e-4 * rows);
    EXPECT_NEAR(load.distinct, distinct, (n < 2 ? 0.02 : 0.01) * distinct) << n;
  }
}

TEST(ExpertLoadTableTest, LoadsNeverFallWhenTokensAreAdded) {
  const RoutingShape shape = shape_of(1, 64, 8);
  const ExpertLoadTable table(zipf(shape, 1), linear(shape, 3));
  ExpertLoad before;
  ExpertLoad slowest_before;
  for (double n = 0; n < 3e6; n = n * 1.01 + 0.1) {
    const std::array tokens{n};
    const ExpertLoad load = table.expected(LayerIndex{0}, tokens, Rank{2});
    const ExpertLoad slowest = table.slowest(LayerIndex{0}, tokens);
    EXPECT_GE(load.rows, before.rows);
    EXPECT_GE(load.distinct, before.distinct - 1e-4);
    EXPECT_GE(slowest.rows, slowest_before.rows);
    EXPECT_GE(slowest.rows, load.rows - 1e-3 * load.rows);
    before = load;
    slowest_before = slowest;
  }
}

TEST(ExpertLoadTableTest, SlowestIsTheOnlyRankWhereThereIsOne) {
  const RoutingShape shape = shape_of(1, 64, 8);
  const ExpertLoadTable table(zipf(shape, 1, 2), linear(shape, 1));
  for (const double n : {1.0, 10.0, 1'000.0}) {
    const std::array tokens{n, 2 * n};
    const ExpertLoad all = table.expected(LayerIndex{0}, tokens, Rank{0});
    const ExpertLoad slowest = table.slowest(LayerIndex{0}, tokens);
    EXPECT_NEAR(slowest.rows, all.rows, 1e-3 * all.rows);
    EXPECT_NEAR(slowest.distinct, all.distinct, 1e-3 * all.distinct);
  }
}

TEST(ExpertLoadTableTest, MeansAreThoseOfTheLayersWithExperts) {
  RoutingShape shape = shape_of(4, 32, 4);
  shape.experts_of_layer[2] = 0;
  const ExpertLoadTable table(zipf(shape, 1), linear(shape, 2));
  for (const double n : {1.0, 7.5, 300.0}) {
    const std::array tokens{n};
    ExpertLoad mean;
    ExpertLoad slowest;
    for (const int layer : {0, 1, 3}) {
      mean.rows += table.expected(LayerIndex{layer}, tokens, Rank{1}).rows / 3;
      mean.distinct += table.expected(LayerIndex{layer}, tokens, Rank{1}).distinct / 3;
      slowest.rows += table.slowest(LayerIndex{layer}, tokens).rows / 3;
      slowest.distinct += table.slowest(LayerIndex{layer}, tokens).distinct / 3;
    }
    EXPECT_NEAR(table.mean(tokens, Rank{1}).rows, mean.rows, 1e-4 * mean.rows);
    EXPECT_NEAR(table.mean(tokens, Rank{1}).distinct, mean.distinct, 1e-4 * mean.distinct);
    EXPECT_NEAR(table.mean_slowest(tokens).rows, slowest.rows, 1e-4 * slowest.rows);
    EXPECT_NEAR(table.mean_slowest(tokens).distinct, slowest.distinct, 1e-4 * slowest.distinct);
  }
}

// Seeded draws: numbers that do not change.
TEST(ExpertLoadTableTest, DrawsAgreeWithOneTopic) {
  for (const double exponent : {0.0, 0.8}) {
    for (const int ranks : {2, 4, 8}) {
      const RoutingShape shape = shape_of(1, 64, 8);
      const RoutingModel routing = zipf(shape, exponent);
      const policy::ExpertMap map = linear(shape, ranks);
      const ExpertLoadTable table(routing, map);
      for (const int n : {1, 4, 32, 256}) {
        const std::array count{n};
        const std::array tokens{static_cast<double>(n)};
        const Sampled sampled = sample(routing, map, LayerIndex{0}, count, 600);
        const ExpertLoad first = table.expected(LayerIndex{0}, tokens, Rank{0});
        const ExpertLoad slowest = table.slowest(LayerIndex{0}, tokens);
        EXPECT_NEAR(first.rows, sampled.first.rows, 0.05 * sampled.first.rows);
        EXPECT_NEAR(first.distinct, sampled.first.distinct, 0.05 * sampled.first.distinct);
        EXPECT_NEAR(slowest.rows, sampled.slowest.rows, 0.08 * sampled.slowest.rows)
            << "exponent " << exponent << ", " << ranks << " ranks, " << n << " tokens";
        EXPECT_NEAR(slowest.distinct, sampled.slowest.distinct, 0.07 * sampled.slowest.distinct)
            << "exponent " << exponent << ", " << ranks << " ranks, " << n << " tokens";
      }
    }
  }
}

TEST(ExpertLoadTableTest, DrawsAgreeWithSeveralTopics) {
  const RoutingShape shape = shape_of(1, 64, 8);
  const RoutingModel routing = zipf(shape, 0.8, 3);
  const policy::ExpertMap map = linear(shape, 4);
  const ExpertLoadTable table(routing, map);
  for (const auto& counts :
       {std::array{5, 0, 0}, std::array{20, 10, 5}, std::array{100, 100, 100}}) {
    const std::array<double, 3> tokens{static_cast<double>(counts[0]),
                                       static_cast<double>(counts[1]),
                                       static_cast<double>(counts[2])};
    const Sampled sampled = sample(routing, map, LayerIndex{0}, counts, 400);
    const ExpertLoad first = table.expected(LayerIndex{0}, tokens, Rank{0});
    const ExpertLoad slowest = table.slowest(LayerIndex{0}, tokens);
    EXPECT_NEAR(first.rows, sampled.first.rows, 0.05 * sampled.first.rows);
    EXPECT_NEAR(first.distinct, sampled.first.distinct, 0.05 * sampled.first.distinct);
    EXPECT_NEAR(slowest.rows, sampled.slowest.rows, 0.08 * sampled.slowest.rows);
    EXPECT_NEAR(slowest.distinct, sampled.slowest.distinct, 0.08 * sampled.slowest.distinct);
  }
}

TEST(ExpertLoadTableTest, ReplicasShareTheirRows) {
  const RoutingShape shape = shape_of(1, 4, 2);
  const RoutingModel routing = zipf(shape, 0);
  std::vector<policy::ExpertPlacement> entries;
  for (int e = 0; e < 4; ++e)
    entries.push_back({LayerIndex{0}, ExpertId{e}, Rank{e / 2}, 1.0});
  entries[0].fraction = 0.25;
  entries.push_back({LayerIndex{0}, ExpertId{0}, Rank{1}, 0.75});
  const auto map = policy::ExpertMap::make({shape.experts_of_layer, 2}, 0, entries);
  ASSERT_TRUE(map.ok());
  const ExpertLoadTable table(routing, *map);
  const std::array tokens{8.0};
  const ExpertLoad first = table.expected(LayerIndex{0}, tokens, Rank{0});
  EXPECT_NEAR(first.rows, 8 * 0.5 * 1.25, 1e-3);
  EXPECT_NEAR(first.distinct, (1 - std::pow(1 - 0.125, 8)) + (1 - std::pow(0.5, 8)), 1e-3);
  EXPECT_NEAR(table.expected(LayerIndex{0}, tokens, Rank{1}).rows, 8 * 0.5 * 2.75, 1e-3);
}

}  // namespace
}  // namespace gimbal::cost
