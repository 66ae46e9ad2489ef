#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "synthetic/fixed_point.h"
#include "synthetic/options.h"

namespace gimbal::synthetic {

// How routing is built into the weights. A few fixed directions of the residual stream carry what
// routers look at: direction 0 is shared by every token, direction 1 + t by the tokens of topic t.
// Embedding rows hold their directions; router rows answer to direction 0 with the expert's
// popularity and to direction 1 + t with topic t's preference; rows of the output head answer to
// their own topic, so that generated text stays on it. docs/synthetic-models.md has the equations.
// Without skew and topics there are no directions, and routing depends on noise alone.
// Immutable; thread-safe.
class RoutingPlan {
 public:
  // weight * sign(direction, column) is added to the row's element at `column`.
  struct Term {
    int direction = 0;
    Fixed weight = 0;
  };

  // Requires: validate(options) is ok.
  explicit RoutingPlan(const SyntheticOptions& options);

  // +1 or -1. Directions are orthogonal where hidden_size is a multiple of a power of two that
  // exceeds the number of topics, nearly so elsewhere.
  [[nodiscard]] int sign(int direction, int column) const {
    const unsigned parity = static_cast<unsigned>(direction) & static_cast<unsigned>(column);
    return (__builtin_popcount(parity) & 1) != 0 ? -flips_[static_cast<std::size_t>(column)]
                                                 : flips_[static_cast<std::size_t>(column)];
  }

  // The topic of a vocabulary id: ids are cut into `topics` equal ranges. 0 without topics.
  [[nodiscard]] int topic_of(std::int64_t token) const;

  // Fill `out` with the terms of one row. A tied table uses the embedding's.
  void embedding_terms(std::int64_t token, std::vector<Term>& out) const;
  void router_terms(int layer, int expert, std::vector<Term>& out) const;
  void head_terms(std::int64_t token, std::vector<Term>& out) const;

  // The tokens that `token` is a likely successor of: kSuccessors of its topic, not all different.
  void predecessors(std::int64_t token, std::vector<std::int64_t>& out) const;
  // The multiple of each predecessor's embedding in an output row, in units of 2^-24.
  [[nodiscard]] std::int64_t successor_weight() const;

  // Mean square of the residual stream before the router of `layer`, in units of 2^-8, as the
  // gains of the other weights make it.
  [[nodiscard]] std::uint64_t energy_before_router(int layer) const;

  [[nodiscard]] int topics() const { return topics_; }

 private:
  [[nodiscard]] std::uint64_t energy_at_end() const;
  // Router weight of a direction that answers with `logit` (units of 2^-16) to a token that has it.
  [[nodiscard]] Fixed response(std::int64_t logit, std::uint64_t energy) const;

  int hidden_;
  int vocab_;
  int experts_;
  int topics_;
  int layers_;
  bool skewed_;
  std::uint64_t seed_;
  std::vector<std::int8_t> flips_;          // [hidden]
  std::vector<std::int64_t> skew_logits_;   // [experts], by popularity rank, units of 2^-16
  std::vector<std::int64_t> topic_logits_;  // [experts], by the topic's rank
  std::vector<int> ranks_;                  // [layers][experts]: popularity rank of an expert
  std::vector<int> topic_ranks_;            // [layers][experts]: rank of an expert for topic 0
};

}  // namespace gimbal::synthetic
