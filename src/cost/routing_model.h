#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"

namespace gimbal::cost {

// The experts that tokens choose among.
struct RoutingShape {
  std::vector<int> experts_of_layer;  // [layers]; 0: a layer without experts
  int experts_per_token = 1;          // <= experts of each layer that has any

  bool operator==(const RoutingShape&) const = default;
};

struct ZipfRouting {
  double exponent = 0;  // [0, 4]; 0: uniform. The i-th most popular expert weighs 1 / i^exponent
  int topics = 1;       // [1, 64]; each has its own order of popularity, in each layer
  std::uint64_t seed = 0;
};

// Which experts tokens choose: for each (layer, topic) the probability p_e that a token's choice of
// k distinct experts holds e; their sum is k. Tokens choose independently of each other.
//
// A choice draws k experts one after the other without putting back, with weights -ln(1 - p_e)
// (Plackett-Luce; p_e is then what an exponential race that stops at the expected k-th arrival
// gives, within 3 % for the shapes in the tests).
//
// Value type; may be read by any number of threads.
class RoutingModel {
 public:
  // kInvalidArgument names the field and its value.
  [[nodiscard]] static Result<RoutingModel> uniform(const RoutingShape& shape);
  [[nodiscard]] static Result<RoutingModel> zipf(const RoutingShape& shape,
                                                 const ZipfRouting& options);
  // Counts of a routing record (`serve --record-routing FILE`), one topic; each expert counts half
  // a choice more than recorded, so that none is impossible. kInvalidArgument: the record is of
  // another shape, or a layer of the model has no rows in it.
  [[nodiscard]] static Result<RoutingModel> recorded(const RoutingShape& shape,
                                                     std::istream& record);
  [[nodiscard]] static Result<RoutingModel> read_record(const RoutingShape& shape,
                                                        const std::string& path);

  // p of each expert; empty for a layer without experts. Holds as long as the model.
  [[nodiscard]] std::span<const float> inclusion(LayerIndex layer, int topic) const;

  // One token's choice. Requires: the layer has experts; experts.size() == k.
  void draw(LayerIndex layer, int topic, Rng& rng, std::span<std::uint16_t> experts) const;

  [[nodiscard]] const RoutingShape& shape() const { return shape_; }
  [[nodiscard]] int layers() const { return static_cast<int>(shape_.experts_of_layer.size()); }
  [[nodiscard]] int topics() const { return topics_; }
  [[nodiscard]] int experts_per_token() const { return shape_.experts_per_token; }

 private:
  RoutingModel(RoutingShape shape, int topics);
  [[nodiscard]] std::size_t cell(LayerIndex layer, int topic) const;
  // Sets p of a (layer, topic) from the weights of its experts, and what draw() needs.
  void set(LayerIndex layer, int topic, std::span<const double> weights);

  RoutingShape shape_;
  int topics_ = 1;
  std::size_t stride_ = 0;        // cells are [layers, topics], each of the most experts of a layer
  std::vector<float> inclusion_;  // [layers, topics, stride]
  std::vector<float> keep_;       // alias tables of the weights, same shape
  std::vector<std::uint16_t> alias_;
};

}  // namespace gimbal::cost
