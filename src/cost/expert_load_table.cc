#include "cost/expert_load_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace gimbal::cost {
namespace {

// Points of the tables: 0 to 16 one by one, then eight to each doubling.
constexpr int kExact = 16;
constexpr int kExactLog = 4;
constexpr int kPerDoubling = 8;
constexpr int kMostLog = 20;
constexpr int kPoints = kExact + kPerDoubling * (kMostLog - kExactLog) + 1;
static_assert(ExpertLoadTable::kMostTokens == double{1 << kMostLog});

double tokens_at(int point) {
  if (point <= kExact) return point;
  const int beyond = point - kExact;
  const double octave = std::ldexp(1.0, kExactLog + beyond / kPerDoubling);
  return octave * (1 + static_cast<double>(beyond % kPerDoubling) / kPerDoubling);
}

// Where n stands between the points: n = (1 - weight)·tokens_at(point) + weight·tokens_at(point +
// 1).
struct Place {
  int point = 0;
  float weight = 0;
};

Place place_of(double n) {
  if (n < kExact) {
    const int point = static_cast<int>(n);
    return {point, static_cast<float>(n - point)};
  }
  const auto bits = std::bit_cast<std::uint64_t>(n);
  const int log = static_cast<int>(bits >> 52) - 1023;
  const double fraction =
      std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL) - 1;
  const double at = fraction * kPerDoubling;
  const int step = static_cast<int>(at);
  return {kExact + (log - kExactLog) * kPerDoubling + step, static_cast<float>(at - step)};
}

float between(const float* values, Place place) {
  const float low = values[place.point];
  return low + place.weight * (values[place.point + 1] - low);
}

struct Moments {
  double mean = 0;
  double variance = 0;
};

// The maximum of two independent normals, as a normal with its first two moments (Clark 1961).
Moments larger(const Moments& a, const Moments& b) {
  const double spread = std::sqrt(a.variance + b.variance);
  if (spread < 1e-9) return a.mean > b.mean ? a : b;
  const double alpha = (a.mean - b.mean) / spread;
  const double density = std::exp(-0.5 * alpha * alpha) / std::sqrt(2 * std::numbers::pi);
  const double below = 0.5 * std::erfc(-alpha / std::numbers::sqrt2);
  const double mean = a.mean * below + b.mean * (1 - below) + spread * density;
  const double square = (a.mean * a.mean + a.variance) * below +
                        (b.mean * b.mean + b.variance) * (1 - below) +
                        (a.mean + b.mean) * spread * density;
  return {mean, std::max(0.0, square - mean * mean)};
}

// For each copy of an expert at the rank, the chance that one token sends a row there.
std::vector<double> chances_at(const RoutingModel& routing, const policy::ExpertMap& map,
                               LayerIndex layer, int topic, Rank rank) {
  const std::span<const float> inclusion = routing.inclusion(layer, topic);
  std::vector<double> chances;
  for (std::size_t e = 0; e < inclusion.size(); ++e) {
    for (const policy::ExpertShare& share :
         map.shares(layer, ExpertId{static_cast<std::int32_t>(e)})) {
      if (share.rank == rank) chances.push_back(share.fraction * inclusion[e]);
    }
  }
  return chances;
}

// Rows and distinct experts at one rank for n tokens. Variances are such that ranks count as
// independent: the covariance that the fixed number of choices makes is taken out.
struct RankMoments {
  Moments rows;
  Moments distinct;
};

RankMoments moments(std::span<const double> chances, double n) {
  RankMoments result;
  for (const double chance : chances) {
    const double some = -std::expm1(n * std::log1p(-chance));
    result.rows.mean += n * chance;
    result.rows.variance += n * chance * (1 - chance);
    result.distinct.mean += some;
    result.distinct.variance += some * (1 - some);
  }
  return result;
}

}  // namespace

ExpertLoadTable::ExpertLoadTable(const RoutingModel& routing, const policy::ExpertMap& map)
    : layers_(routing.layers()), topics_(routing.topics()), ranks_(map.ranks()) {
  GIMBAL_CHECK(map.shape().experts_of_layer == routing.shape().experts_of_layer);
  const std::size_t places = place(layers_, ranks_) + 1;
  held_.resize(places);
  rows_.resize(places * static_cast<std::size_t>(topics_) * kPoints);
  distinct_.resize(rows_.size());
  for (int layer = 0; layer < layers_; ++layer) {
    if (routing.shape().experts_of_layer[static_cast<std::size_t>(layer)] == 0) continue;
    for (int topic = 0; topic < topics_; ++topic)
      fill(routing, map, LayerIndex{layer}, topic);
    moe_layers_.push_back(layer);
  }
  fill_means();
}

std::size_t ExpertLoadTable::place(int layer, int rank) const {
  return static_cast<std::size_t>(layer) * static_cast<std::size_t>(ranks_ + 1) +
         static_cast<std::size_t>(rank);
}

std::size_t ExpertLoadTable::curve(std::size_t place, int topic) const {
  return (place * static_cast<std::size_t>(topics_) + static_cast<std::size_t>(topic)) * kPoints;
}

void ExpertLoadTable::fill(const RoutingModel& routing, const policy::ExpertMap& map,
                           LayerIndex layer, int topic) {
  std::vector<std::vector<double>> chances;
  for (int rank = 0; rank < ranks_; ++rank) {
    chances.push_back(chances_at(routing, map, layer, topic, Rank{rank}));
    held_[place(layer.value(), rank)] = static_cast<float>(chances.back().size());
  }
  const std::size_t slowest = place(layer.value(), ranks_);
  const auto most = std::ranges::max(chances, {}, &std::vector<double>::size).size();
  held_[slowest] = static_cast<float>(most);
  for (int point = 0; point < kPoints; ++point) {
    const double n = tokens_at(point);
    RankMoments largest;
    for (int rank = 0; rank < ranks_; ++rank) {
      const RankMoments here = moments(chances[static_cast<std::size_t>(rank)], n);
      const std::size_t at =
          curve(place(layer.value(), rank), topic) + static_cast<std::size_t>(point);
      rows_[at] = static_cast<float>(here.rows.mean);
      distinct_[at] = static_cast<float>(here.distinct.mean);
      largest.rows = rank == 0 ? here.rows : larger(largest.rows, here.rows);
      largest.distinct = rank == 0 ? here.distinct : larger(largest.distinct, here.distinct);
    }
    const std::size_t at = curve(slowest, topic) + static_cast<std::size_t>(point);
    const double every_row = n * routing.experts_per_token();
    rows_[at] = static_cast<float>(std::min(largest.rows.mean, every_row));
    distinct_[at] =
        static_cast<float>(std::min({largest.distinct.mean, static_cast<double>(most), every_row}));
  }
}

void ExpertLoadTable::fill_means() {
  if (moe_layers_.empty()) return;
  const float share = 1.0F / static_cast<float>(moe_layers_.size());
  for (int rank = 0; rank <= ranks_; ++rank) {
    const std::size_t mean = place(layers_, rank);
    for (const int layer : moe_layers_) {
      held_[mean] += share * held_[place(layer, rank)];
      for (int topic = 0; topic < topics_; ++topic) {
        for (std::size_t point = 0; point < kPoints; ++point) {
          rows_[curve(mean, topic) + point] +=
              share * rows_[curve(place(layer, rank), topic) + point];
          distinct_[curve(mean, topic) + point] +=
              share * distinct_[curve(place(layer, rank), topic) + point];
        }
      }
    }
  }
}

ExpertLoad ExpertLoadTable::at(std::size_t place, int topic, double tokens) const {
  if (!(tokens > 0)) return {};
  const std::size_t first = curve(place, topic);
  if (tokens >= kMostTokens) {
    const std::size_t last = first + kPoints - 1;
    return {rows_[last] * tokens / kMostTokens, distinct_[last]};
  }
  const Place where = place_of(tokens);
  return {between(&rows_[first], where), between(&distinct_[first], where)};
}

ExpertLoad ExpertLoadTable::at(std::size_t place, std::span<const double> tokens) const {
  GIMBAL_DCHECK(tokens.size() == static_cast<std::size_t>(topics_));
  if (topics_ == 1) return at(place, 0, tokens[0]);
  ExpertLoad sum;
  const double held = held_[place];
  double missed = held;
  for (int topic = 0; topic < topics_; ++topic) {
    const ExpertLoad load = at(place, topic, tokens[static_cast<std::size_t>(topic)]);
    sum.rows += load.rows;
    if (held > 0) missed *= 1 - load.distinct / held;
  }
  sum.distinct = held - missed;
  return sum;
}

ExpertLoad ExpertLoadTable::expected(LayerIndex layer, std::span<const double> tokens,
                                     Rank rank) const {
  GIMBAL_DCHECK(rank.value() >= 0 && rank.value() < ranks_);
  return at(place(layer.value(), rank.value()), tokens);
}

ExpertLoad ExpertLoadTable::mean(std::span<const double> tokens, Rank rank) const {
  GIMBAL_DCHECK(rank.value() >= 0 && rank.value() < ranks_);
  return at(place(layers_, rank.value()), tokens);
}

ExpertLoad ExpertLoadTable::slowest(LayerIndex layer, std::span<const double> tokens) const {
  if (topics_ == 1 || ranks_ == 1) return at(place(layer.value(), ranks_), tokens);
  ExpertLoad largest;
  for (int rank = 0; rank < ranks_; ++rank) {
    const ExpertLoad here = at(place(layer.value(), rank), tokens);
    largest.rows = std::max(largest.rows, here.rows);
    largest.distinct = std::max(largest.distinct, here.distinct);
  }
  double row_spread = 0;
  double distinct_spread = 0;
  for (int topic = 0; topic < topics_; ++topic) {
    const double n = tokens[static_cast<std::size_t>(topic)];
    const ExpertLoad most = at(place(layer.value(), ranks_), topic, n);
    ExpertLoad mean_most;
    for (int rank = 0; rank < ranks_; ++rank) {
      const ExpertLoad here = at(place(layer.value(), rank), topic, n);
      mean_most.rows = std::max(mean_most.rows, here.rows);
      mean_most.distinct = std::max(mean_most.distinct, here.distinct);
    }
    row_spread += (most.rows - mean_most.rows) * (most.rows - mean_most.rows);
    distinct_spread += (most.distinct - mean_most.distinct) * (most.distinct - mean_most.distinct);
  }
  largest.rows += std::sqrt(row_spread);
  largest.distinct = std::min<double>(held_[place(layer.value(), ranks_)],
                                      largest.distinct + std::sqrt(distinct_spread));
  return largest;
}

ExpertLoad ExpertLoadTable::mean_slowest(std::span<const double> tokens) const {
  if (topics_ == 1 || ranks_ == 1) return at(place(layers_, ranks_), tokens);
  ExpertLoad sum;
  for (const int layer : moe_layers_) {
    const ExpertLoad load = slowest(LayerIndex{layer}, tokens);
    sum.rows += load.rows;
    sum.distinct += load.distinct;
  }
  const double count = std::max<double>(1, static_cast<double>(moe_layers_.size()));
  return {sum.rows / count, sum.distinct / count};
}

}  // namespace gimbal::cost
