#include "cost/routing_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "base/check.h"
#include "sched/routing_record.h"

namespace gimbal::cost {
namespace {

constexpr int kMostTopics = 64;
constexpr double kMostExponent = 4;
constexpr double kMostInclusion = 1 - 1e-6;  // keeps weights finite
constexpr int kTriesPerExpert = 8;           // draws of one expert before it is searched for

Result<void> check_shape(const RoutingShape& shape) {
  if (shape.experts_of_layer.empty())
    return invalid_argument("routing: experts_of_layer must have a layer", "experts_of_layer");
  if (shape.experts_per_token < 1) {
    return invalid_argument(fmt::format("routing: experts_per_token must be at least 1, is {}",
                                        shape.experts_per_token),
                            "experts_per_token");
  }
  for (std::size_t layer = 0; layer < shape.experts_of_layer.size(); ++layer) {
    const int experts = shape.experts_of_layer[layer];
    if (experts == 0 || (experts >= shape.experts_per_token && experts <= UINT16_MAX)) continue;
    return invalid_argument(
        fmt::format(
            "routing: experts of layer {} must be 0 or from experts_per_token, {}, to {}, is {}",
            layer, shape.experts_per_token, UINT16_MAX, experts),
        "experts_of_layer");
  }
  return {};
}

// Inclusion probabilities of an exponential race over `weights` that stops at the expected k-th
// arrival: 1 - exp(-weight·t) with the t for which they sum to k.
std::vector<double> race(std::span<const double> weights, int k) {
  std::vector<double> inclusion(weights.size(), kMostInclusion);
  if (static_cast<std::size_t>(k) == weights.size()) return inclusion;
  const auto sum_at = [&](double t) {
    double sum = 0;
    for (const double weight : weights)
      sum -= std::expm1(-weight * t);
    return sum;
  };
  double low = 0;
  double high = k / std::accumulate(weights.begin(), weights.end(), 0.0);
  while (sum_at(high) < k)
    high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = 0.5 * (low + high);
    (sum_at(middle) < k ? low : high) = middle;
  }
  for (std::size_t e = 0; e < weights.size(); ++e)
    inclusion[e] = std::min(kMostInclusion, -std::expm1(-weights[e] * high));
  return inclusion;
}

// Vose's alias tables: a uniform column, then itself or its alias, draws in proportion to weights.
void fill_alias(std::span<const double> weights, std::span<float> keep,
                std::span<std::uint16_t> alias) {
  const double mean =
      std::accumulate(weights.begin(), weights.end(), 0.0) / static_cast<double>(weights.size());
  std::vector<double> left;
  for (const double weight : weights)
    left.push_back(weight / mean);
  std::vector<std::size_t> small;
  std::vector<std::size_t> large;
  for (std::size_t e = 0; e < left.size(); ++e)
    (left[e] < 1 ? small : large).push_back(e);
  while (!small.empty() && !large.empty()) {
    const std::size_t giver = large.back();
    const std::size_t taker = small.back();
    small.pop_back();
    keep[taker] = static_cast<float>(left[taker]);
    alias[taker] = static_cast<std::uint16_t>(giver);
    left[giver] -= 1 - left[taker];
    if (left[giver] < 1) {
      large.pop_back();
      small.push_back(giver);
    }
  }
  for (const auto& rest : {small, large}) {
    for (const std::size_t e : rest) {
      keep[e] = 1;
      alias[e] = static_cast<std::uint16_t>(e);
    }
  }
}

}  // namespace

RoutingModel::RoutingModel(RoutingShape shape, int topics)
    : shape_(std::move(shape)), topics_(topics) {
  stride_ = static_cast<std::size_t>(std::ranges::max(shape_.experts_of_layer));
  const std::size_t size =
      shape_.experts_of_layer.size() * static_cast<std::size_t>(topics) * stride_;
  inclusion_.resize(size);
  keep_.resize(size);
  alias_.resize(size);
}

Result<RoutingModel> RoutingModel::uniform(const RoutingShape& shape) {
  return zipf(shape, {});
}

Result<RoutingModel> RoutingModel::zipf(const RoutingShape& shape, const ZipfRouting& options) {
  GIMBAL_RETURN_IF_ERROR(check_shape(shape));
  if (!(options.exponent >= 0 && options.exponent <= kMostExponent)) {
    return invalid_argument(fmt::format("routing: exponent must be from 0 to {}, is {}",
                                        kMostExponent, options.exponent),
                            "exponent");
  }
  if (options.topics < 1 || options.topics > kMostTopics) {
    return invalid_argument(
        fmt::format("routing: topics must be from 1 to {}, is {}", kMostTopics, options.topics),
        "topics");
  }
  RoutingModel model(shape, options.topics);
  for (int layer = 0; layer < model.layers(); ++layer) {
    const auto experts =
        static_cast<std::size_t>(shape.experts_of_layer[static_cast<std::size_t>(layer)]);
    if (experts == 0) continue;
    for (int topic = 0; topic < options.topics; ++topic) {
      std::vector<double> weights(experts);
      for (std::size_t i = 0; i < experts; ++i)
        weights[i] = std::pow(static_cast<double>(i + 1), -options.exponent);
      Rng rng(options.seed * 0x9E3779B97F4A7C15ULL + static_cast<std::uint64_t>(layer) * 64 +
              static_cast<std::uint64_t>(topic) + 1);
      for (std::size_t i = experts; i > 1; --i)
        std::swap(weights[i - 1], weights[rng.below(i)]);
      model.set(LayerIndex{layer}, topic, weights);
    }
  }
  return model;
}

Result<RoutingModel> RoutingModel::recorded(const RoutingShape& shape, std::istream& record) {
  GIMBAL_RETURN_IF_ERROR(check_shape(shape));
  GIMBAL_ASSIGN_OR_RETURN(auto reader, sched::RoutingRecordReader::open(record));
  const sched::RoutingRecordHeader& header = reader.header();
  RoutingModel model(shape, 1);
  const auto differs = [](const char* field, int expected, int found) {
    return invalid_argument(
        fmt::format("routing record: {} must be the model's {}, is {}", field, expected, found),
        field);
  };
  if (header.layers != model.layers()) return differs("layers", model.layers(), header.layers);
  if (header.k != shape.experts_per_token) return differs("k", shape.experts_per_token, header.k);
  if (header.experts != static_cast<int>(model.stride_))
    return differs("experts", static_cast<int>(model.stride_), header.experts);

  std::vector<double> counts(model.inclusion_.size(), 0.5);
  std::vector<std::uint64_t> rows(shape.experts_of_layer.size());
  for (sched::RoutingRow row;;) {
    GIMBAL_ASSIGN_OR_RETURN(const bool more, reader.next(row));
    if (!more) break;
    const auto layer = static_cast<std::size_t>(row.layer.value());
    ++rows[layer];
    for (const std::uint16_t expert : row.experts)
      ++counts[layer * model.stride_ + expert];
  }
  for (std::size_t layer = 0; layer < rows.size(); ++layer) {
    const auto experts = static_cast<std::size_t>(shape.experts_of_layer[layer]);
    if ((experts == 0) != (rows[layer] == 0)) {
      return invalid_argument(
          fmt::format("routing record: rows of layer {} must be {}, are {}", layer,
                      experts == 0 ? "0 as it has no experts" : "at least 1", rows[layer]),
          "rows");
    }
    if (experts == 0) continue;
    const auto seen = std::span(counts).subspan(layer * model.stride_, experts);
    const double all = std::accumulate(seen.begin(), seen.end(), 0.0);
    std::vector<double> weights;
    for (const double count : seen) {
      const double inclusion = count / all * shape.experts_per_token;
      weights.push_back(-std::log1p(-std::min(inclusion, kMostInclusion)));
    }
    model.set(LayerIndex{static_cast<std::int32_t>(layer)}, 0, weights);
  }
  return model;
}

Result<RoutingModel> RoutingModel::read_record(const RoutingShape& shape, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return io_error(path, errno);
  auto model = recorded(shape, file);
  if (!model.ok()) return model.error().within(path);
  return model;
}

std::size_t RoutingModel::cell(LayerIndex layer, int topic) const {
  GIMBAL_DCHECK(layer.value() >= 0 && layer.value() < layers() && topic >= 0 && topic < topics_);
  return (static_cast<std::size_t>(layer.value()) * static_cast<std::size_t>(topics_) +
          static_cast<std::size_t>(topic)) *
         stride_;
}

void RoutingModel::set(LayerIndex layer, int topic, std::span<const double> weights) {
  const std::vector<double> inclusion = race(weights, shape_.experts_per_token);
  std::ranges::copy(inclusion,
                    inclusion_.begin() + static_cast<std::ptrdiff_t>(cell(layer, topic)));
  fill_alias(weights, std::span(keep_).subspan(cell(layer, topic), weights.size()),
             std::span(alias_).subspan(cell(layer, topic), weights.size()));
}

std::span<const float> RoutingModel::inclusion(LayerIndex layer, int topic) const {
  const int experts = shape_.experts_of_layer[static_cast<std::size_t>(layer.value())];
  return std::span(inclusion_).subspan(cell(layer, topic), static_cast<std::size_t>(experts));
}

void RoutingModel::draw(LayerIndex layer, int topic, Rng& rng,
                        std::span<std::uint16_t> experts) const {
  const std::span<const float> inclusion = this->inclusion(layer, topic);
  GIMBAL_DCHECK(!inclusion.empty());
  GIMBAL_DCHECK(experts.size() == static_cast<std::size_t>(shape_.experts_per_token));
  const std::size_t first = cell(layer, topic);
  const auto taken = [&](std::size_t count, std::size_t expert) {
    const auto end = experts.begin() + static_cast<std::ptrdiff_t>(count);
    return std::find(experts.begin(), end, expert) != end;
  };
  for (std::size_t i = 0; i < experts.size(); ++i) {
    std::size_t expert = 0;
    int tries = 0;
    do {
      const std::uint64_t word = rng();
      const std::size_t column = ((word >> 32) * inclusion.size()) >> 32;
      const float chance = static_cast<float>(word & 0xFFFFFF) * 0x1p-24F;
      expert = chance < keep_[first + column] ? column : alias_[first + column];
    } while (taken(i, expert) && ++tries < kTriesPerExpert);
    if (taken(i, expert)) {
      // What is left is rare: search among it, in proportion to the weights.
      double all = 0;
      for (std::size_t e = 0; e < inclusion.size(); ++e)
        if (!taken(i, e)) all -= std::log1p(-static_cast<double>(inclusion[e]));
      double at = rng.uniform() * all;
      for (std::size_t e = 0; e < inclusion.size(); ++e) {
        if (taken(i, e)) continue;
        expert = e;
        at += std::log1p(-static_cast<double>(inclusion[e]));
        if (at <= 0) break;
      }
    }
    experts[i] = static_cast<std::uint16_t>(expert);
  }
}

}  // namespace gimbal::cost
