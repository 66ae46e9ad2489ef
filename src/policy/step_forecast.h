#pragma once

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "policy/step_costs.h"

namespace gimbal::policy {

// How an engine's batch former cuts its backlog: the prefill rows of a step with decodes are
// clamp(backlog / drain_steps, floor, ceiling); without decodes, and with drain_steps 0 always,
// the ceiling. Floor 0 is the automatic one of policy/batch_former.h.
struct PrefillBudget {
  double drain_steps = 0;  // k
  double floor = 0;        // rows
  double ceiling = 1;      // rows, decodes included; > 0

  bool operator==(const PrefillBudget&) const = default;
};

// What one rank of a group has to do.
struct RankLoad {
  StepCosts costs;
  PrefillBudget budget;
  double backlog = 0;  // prompt tokens to compute, running and waiting
  double decodes = 0;
  double decode_context = 0;
  double pressure = 1;  // rho: the rank's service takes that much longer than its own rows need
};

// A prompt to be put on one rank.
struct ForecastWork {
  double ahead = 0;     // tokens of the rank's backlog that run before it; <= backlog
  double tokens = 0;    // its own uncached tokens
  double position = 0;  // where they begin: tokens before them, which they attend to
};

// When work gets done that a group of engines has, if nothing more arrives (T and Ext of
// docs/design/0009). Ranks of a group share experts and step together: a step takes the longest
// attention of its members and their slowest service. The group is stepped forward once, when it is
// made, by the rules of the members' formers, for at most 64 steps; beyond those it goes on at the
// last step's pace. A prompt on one rank changes that rank's rows alone, and their number of steps
// is in closed form: with backlog b the tokens done after n steps are n·ceiling, then b(1 − (1 −
// 1/k)^n), then n·floor. So each question below is O(1); making the forecast is O(ranks ·
// min(steps, 64)), O(1) for one rank.
//
// Value type; a function of its input.
class GroupForecast {
 public:
  GroupForecast() = default;

  // Overwrites the forecast; keeps its memory. Requires: at least one rank.
  void reset(std::span<const RankLoad> ranks);

  // ms until the prompt's last token is computed on `rank`.
  [[nodiscard]] double finish_ms(int rank, const ForecastWork& work) const;
  // ms until nobody of the group has prefill left; with the prompt on `rank`.
  [[nodiscard]] double drain_ms() const { return drain_ms_; }
  [[nodiscard]] double drain_with_ms(int rank, const ForecastWork& work) const;
  // A step without prefill, with one more decode of `context` tokens on `rank`: TPOT.
  [[nodiscard]] double decode_step_ms(int rank, double context) const;
  // A step of the ceiling's prefill rows on that rank.
  [[nodiscard]] double full_step_ms(int rank) const;

 private:
  struct Part {  // of a rank's step
    double attention = 0;
    double service = 0;
  };
  // One rank's load with what every question about it needs.
  struct Rank {
    double base_attention = 0;  // of its decodes
    double per_row_attention = 0;
    double per_context_attention = 0;  // a4
    double per_decode_attention = 0;
    double per_decode_context = 0;
    double mixed_attention = 0;  // a5·C: added by any prefill
    double base_service = 0;     // e0 + e1·D
    double per_row_service = 0;
    double per_expert = 0;
    double all_experts = 0;     // ratio · E
    double log_missed = 0;      // log(1 − k/E); 0: dense
    double missed_decodes = 1;  // (1 − k/E)^D
    double pressure = 1;
    double backlog = 0;
    double drain_steps = 0;
    double floor = 1;
    double ceiling = 1;
  };
  // What follows from a number alone, kept because most ranks agree on it.
  struct Missed {
    ExpertShape experts;
    double log = 0;  // log(1 − k/E); 0: dense
  };
  struct Decay {
    double drain_steps = 0;
    double log = 0;                    // log(1 − 1/k)
    std::array<double, 64> powers{1};  // (1 − 1/k)^n
  };
  [[nodiscard]] Rank rank_of(const RankLoad& load);
  void remember(const RankLoad& load);
  [[nodiscard]] static Part step_of(const Rank& rank, double rows);
  // Steps until `done` of a backlog of `backlog` tokens are computed.
  [[nodiscard]] double steps_until(const Rank& rank, double done, double backlog) const;
  // Steps at which (1 − 1/k)^steps is at most `ratio`, and the power there.
  [[nodiscard]] std::pair<double, double> decay_to(double drain_steps, double ratio) const;
  [[nodiscard]] double rest_after(const Rank& rank, double backlog, int steps) const;
  void step_group();
  [[nodiscard]] Part sum_until(double steps) const;
  // Time of the first `steps` steps while `rank` runs `tokens` in them.
  [[nodiscard]] double time_of(int rank, double steps, double tokens, double own_context) const;

  Missed missed_;
  Decay decay_;
  std::vector<Rank> ranks_;
  std::vector<Part> sums_;  // of the first n steps' slowest attention and service; empty: one rank
  std::vector<double> left_;
  Part rest_;  // a step without prefill
  double drain_steps_ = 0;
  double drain_ms_ = 0;
};

}  // namespace gimbal::policy
