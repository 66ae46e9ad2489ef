#include "synthetic/routing_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/hash.h"
#include "base/random.h"
#include "synthetic/weight_gains.h"

namespace gimbal::synthetic {
namespace {

enum Stream : std::uint64_t { kFlips = 1, kPopularity, kTopicOrder, kSuccession };

Rng rng_of(std::uint64_t seed, Stream stream, std::uint64_t index) {
  return Rng(hash_combine(hash_combine(hash_combine(seed, 0x726f757465ULL), stream), index));
}

// Zipf logits of ranks 0.., mean 0, in units of 2^-16: -exponent * ln(rank + 1), times what turns
// a Gumbel-distributed choice into one by the router's normal noise.
std::vector<std::int64_t> zipf_logits(double exponent, double router_gain, int experts) {
  const std::int64_t exponent_256 = std::lround(exponent * 256);  // exact: a power of two
  const std::int64_t gain_256 = std::lround(router_gain * 256);
  std::vector<std::int64_t> logits;
  for (int rank = 0; rank < experts; ++rank) {
    const auto log = log_fixed16(static_cast<std::uint32_t>(rank) + 1);
    logits.push_back(-log * exponent_256 / 256 * gain_256 / kGumbelDeviation);
  }
  const std::int64_t mean =
      std::accumulate(logits.begin(), logits.end(), std::int64_t{0}) / experts;
  for (auto& logit : logits) {
    logit -= mean;
  }
  return logits;
}

void append_permutation(Rng rng, int count, std::vector<int>& out) {
  const std::size_t start = out.size();
  for (int i = 0; i < count; ++i) {
    out.push_back(i);
    const auto other = start + rng.below(static_cast<std::uint64_t>(i) + 1);
    std::swap(out.back(), out[other]);
  }
}

}  // namespace

RoutingPlan::RoutingPlan(const SyntheticOptions& options)
    : hidden_(options.hidden_size),
      vocab_(options.vocab_size),
      experts_(options.experts),
      topics_(options.topics > 1 ? options.topics : 0),
      layers_(options.layers),
      skewed_(options.routing_skew > 0),
      seed_(options.seed) {
  if (!traits_of(options.family).has_experts) {
    topics_ = 0;
    skewed_ = false;
  }
  Rng flips = rng_of(options.seed, kFlips, 0);
  for (int i = 0; i < hidden_; ++i) {
    flips_.push_back((flips() >> 63) != 0 ? std::int8_t{1} : std::int8_t{-1});
  }
  if (skewed_) skew_logits_ = zipf_logits(options.routing_skew, options.router_gain, experts_);
  if (topics_ > 0)
    topic_logits_ = zipf_logits(options.topic_strength, options.router_gain, experts_);
  for (int layer = 0; layer < layers_ && (skewed_ || topics_ > 0); ++layer) {
    const auto index = static_cast<std::uint64_t>(layer);
    append_permutation(rng_of(options.seed, kPopularity, index), experts_, ranks_);
    append_permutation(rng_of(options.seed, kTopicOrder, index), experts_, topic_ranks_);
  }
}

int RoutingPlan::topic_of(std::int64_t token) const {
  return topics_ == 0 ? 0 : static_cast<int>(token * topics_ / vocab_);
}

void RoutingPlan::embedding_terms(std::int64_t token, std::vector<Term>& out) const {
  out.clear();
  constexpr Fixed kWeight = kOne / 256 * kDirectionGain;
  if (skewed_) out.push_back({0, kWeight});
  if (topics_ > 0) out.push_back({1 + topic_of(token), kWeight});
}

void RoutingPlan::router_terms(int layer, int expert, std::vector<Term>& out) const {
  out.clear();
  const std::uint64_t energy = energy_before_router(layer);
  const auto index = static_cast<std::size_t>(layer) * static_cast<std::size_t>(experts_) +
                     static_cast<std::size_t>(expert);
  if (skewed_) {
    out.push_back({0, response(skew_logits_[static_cast<std::size_t>(ranks_[index])], energy)});
  }
  for (int topic = 0; topic < topics_; ++topic) {
    // Topics prefer the same cyclic order from starts that are spread evenly.
    const std::int64_t start = static_cast<std::int64_t>(topic) * experts_ / topics_;
    const auto rank = static_cast<std::size_t>((topic_ranks_[index] + start) % experts_);
    out.push_back({1 + topic, response(topic_logits_[rank], energy)});
  }
}

void RoutingPlan::head_terms(std::int64_t token, std::vector<Term>& out) const {
  out.clear();
  if (topics_ == 0) return;
  out.push_back({1 + topic_of(token), response(kTopicLogit16, energy_at_end())});
}

void RoutingPlan::predecessors(std::int64_t token, std::vector<std::int64_t>& out) const {
  out.clear();
  const std::int64_t topics = std::max(topics_, 1);
  const std::int64_t topic = topic_of(token);
  const std::int64_t first = (topic * vocab_ + topics - 1) / topics;
  const std::int64_t size = ((topic + 1) * vocab_ + topics - 1) / topics - first;
  for (std::uint64_t i = 0; i < kSuccessors; ++i) {
    // An affine permutation of the topic's tokens.
    Rng rng = rng_of(seed_, kSuccession, i * 65536 + static_cast<std::uint64_t>(topic));
    auto factor = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size)));
    while (std::gcd(factor, size) != 1) {
      ++factor;
    }
    const auto shift = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(size)));
    out.push_back(first + (factor * (token - first) + shift) % size);
  }
}

std::int64_t RoutingPlan::successor_weight() const {
  // The last row holds 1 / rms of the embedding, whose product with itself is `hidden`.
  const auto rms_256 = static_cast<std::int64_t>(integer_sqrt(energy_at_end() * 256));
  return kSuccessorLogit16 * rms_256 / hidden_;
}

std::uint64_t RoutingPlan::energy_before_router(int layer) const {
  const std::uint64_t direction = kDirectionGain * kDirectionGain / 256;
  const std::uint64_t embedding = kEmbeddingGain * kEmbeddingGain / 256 +
                                  direction * ((skewed_ ? 1 : 0) + (topics_ > 0 ? 1 : 0));
  return embedding + static_cast<std::uint64_t>(layer) * (kAttentionEnergy + kFeedForwardEnergy) +
         kAttentionEnergy;
}

std::uint64_t RoutingPlan::energy_at_end() const {
  return energy_before_router(layers_) - kAttentionEnergy;
}

Fixed RoutingPlan::response(std::int64_t logit, std::uint64_t energy) const {
  // A normalised row holds direction_gain / rms on each column, so the dot product with a row of
  // weights w * sign is w * hidden * direction_gain / rms.
  const auto rms_256 = static_cast<std::int64_t>(integer_sqrt(energy * 256));
  return (logit << (kFractionBits - 16)) / hidden_ * rms_256 / kDirectionGain;
}

}  // namespace gimbal::synthetic
