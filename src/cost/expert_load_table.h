#pragma once

#include <span>
#include <vector>

#include "base/ids.h"
#include "cost/routing_model.h"
#include "policy/expert_map.h"

namespace gimbal::cost {

// Rows, (token, expert) pairs, that a rank runs of one layer, and the experts they go to.
struct ExpertLoad {
  double rows = 0;
  double distinct = 0;

  bool operator==(const ExpertLoad&) const = default;
};

// What a routing model and an expert map let each rank expect, tabulated so that asking costs a
// lookup with interpolation:
//
//   rows(layer, rank)     = sum over experts e there of fraction · sum over topics t of n_t·p_te
//   distinct(layer, rank) = sum over experts e there of 1 - prod over topics (1 -
//   fraction·p_te)^n_t
//
// With one topic both are exact at the table's points. Topics are combined as if their experts were
// independent: distinct = H·(1 - prod over t (1 - distinct_t(n_t)/H)), H experts at the rank.
//
// `slowest` is the expected maximum over ranks, of rows and of distinct experts each on its own:
// both are taken as normal, and the maximum of normals by Clark's moments ("The greatest of a
// finite set of random variables", 1961), rank after rank. With several topics it is the largest
// mean of the ranks and, on it, what each topic alone adds to its own largest mean, as a root of
// squares. With one rank it is what expected() says.
//
// Value type; may be read by any number of threads.
class ExpertLoadTable {
 public:
  // Tokens beyond this many are extrapolated: rows in proportion, distinct experts not at all.
  static constexpr double kMostTokens = 1 << 20;

  // Requires: the map's shape is the routing model's.
  ExpertLoadTable(const RoutingModel& routing, const policy::ExpertMap& map);

  // When tokens[t] >= 0 tokens of topic t run the layer, from all sources together. {0, 0} for a
  // layer without experts. Requires: tokens.size() == topics().
  [[nodiscard]] ExpertLoad expected(LayerIndex layer, std::span<const double> tokens,
                                    Rank rank) const;
  [[nodiscard]] ExpertLoad slowest(LayerIndex layer, std::span<const double> tokens) const;

  // The same, as means over the layers that have experts: one lookup for a whole step (for
  // mean_slowest with several topics: layers x ranks x topics of them).
  [[nodiscard]] ExpertLoad mean(std::span<const double> tokens, Rank rank) const;
  [[nodiscard]] ExpertLoad mean_slowest(std::span<const double> tokens) const;

  [[nodiscard]] int layers() const { return layers_; }
  [[nodiscard]] int topics() const { return topics_; }
  [[nodiscard]] int ranks() const { return ranks_; }

 private:
  // Places are [layers + 1, ranks + 1]: the last layer is the mean, the last rank the slowest.
  [[nodiscard]] std::size_t place(int layer, int rank) const;
  // Where the points of a place and a topic begin.
  [[nodiscard]] std::size_t curve(std::size_t place, int topic) const;
  [[nodiscard]] ExpertLoad at(std::size_t place, int topic, double tokens) const;
  [[nodiscard]] ExpertLoad at(std::size_t place, std::span<const double> tokens) const;
  void fill(const RoutingModel& routing, const policy::ExpertMap& map, LayerIndex layer, int topic);
  void fill_means();

  int layers_ = 0;
  int topics_ = 1;
  int ranks_ = 1;
  std::vector<int> moe_layers_;
  std::vector<float> held_;      // [places]: experts there
  std::vector<float> rows_;      // [places, topics, points]
  std::vector<float> distinct_;  // [places, topics, points]
};

}  // namespace gimbal::cost
