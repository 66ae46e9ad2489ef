#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "policy/prefill_cost.h"
#include "policy/recursive_least_squares.h"

namespace gimbal::policy {

// The experts of one engine's model, summed over its layers. All zero: a dense model.
struct ExpertShape {
  int experts = 0;          // of all MoE layers together
  int choices_per_row = 0;  // experts a row goes through; <= experts

  bool operator==(const ExpertShape&) const = default;
};

// Distinct experts that `rows` rows touch where choices are uniform: E·(1 − (1 − k/E)^rows).
[[nodiscard]] double touched_experts(const ExpertShape& experts, double rows);

// What makes a step's time.
struct StepShape {
  double prefill = 0;         // q: rows of prompts
  double decodes = 0;         // D: rows of decodes
  double decode_context = 0;  // C: tokens that the decodes attend to
  // q·context: tokens that the prefill rows attend to, summed over the rows.
  double prefill_context = 0;

  [[nodiscard]] double rows() const { return prefill + decodes; }
  // Adds `rows` prompt rows of one sequence from `position` on.
  void add_prefill(double position, double rows) {
    prefill += rows;
    prefill_context += rows * (position + (rows + 1) / 2);
  }
};

// Of what is fitted, which may be below 0 where it must not.
[[nodiscard]] inline double clipped(double value) {
  return std::max(value, 0.0);
}

// ms = a0 + a1·q + a2·D + a3·C + a4·q·context + a5·C·[q > 0], and e0 + e1·rows + e2·distinct
// experts, as fitted: unconstrained, so one that the steps do not tell from another may be below 0.
// a5 is for kernels whose decodes read their context slower beside rows of prompts.
struct StepTimeCoefficients {
  std::array<double, 6> attention{};
  std::array<double, 3> service{};

  bool operator==(const StepTimeCoefficients&) const = default;
};

// How long an engine's steps take, learned from finished ones by recursive least squares
// (forgetting 0.995 a step). Residuals count relative to the step's time, so that short steps are
// fitted as well as long ones and a step that was descheduled, or ran on cold memory, hardly
// counts.
//
// What is predicted is clipped at 0: a step without prefill as a whole, and each coefficient of
// what prefill adds to it; so predictions never fall when prefill rows are added.
//
// Distinct experts are summed over the layers. For n rows they are predicted as what uniform
// choices would touch, times the measured ratio of the real ones to that.
//
// Value type; a function of the noted steps only. Allocates nothing.
class StepTimeModel {
 public:
  explicit StepTimeModel(const ExpertShape& experts = {});

  // A finished step: what it was, and how long its stages ran, waits left out. A step that took no
  // time (a clock that stands still) says nothing.
  void note(const StepShape& step, double attention_ms, double service_ms, double distinct_experts);

  // Whether enough steps of both kinds, with and without decodes or prefill, have been seen for
  // predictions to mean something. Until then do not ask for any.
  [[nodiscard]] bool fitted() const;

  [[nodiscard]] double step_ms(const StepShape& step) const;
  // Of it, the computation of prefill rows: without the experts that they alone make it read.
  [[nodiscard]] double prefill_compute_ms(const StepShape& step) const;
  // What a step with these decodes takes longer as soon as it has any prefill, however little:
  // their context, read slower, and at most all experts that they alone leave unread.
  [[nodiscard]] double mixing_ms(const StepShape& decodes) const;
  // What `rows` prefill rows without context take as a step of their own, as c1, and c_q.
  [[nodiscard]] PrefillCost prefill_cost(int rows) const;

  [[nodiscard]] double distinct_experts(double rows) const;
  [[nodiscard]] StepTimeCoefficients coefficients() const;
  // Distinct experts to what uniform choices touch.
  [[nodiscard]] double expert_ratio() const { return expert_ratio_; }

 private:
  ExpertShape experts_;
  RecursiveLeastSquares<6> attention_;
  RecursiveLeastSquares<3> service_;
  double mean_attention_ms_ = 0;  // decayed
  double mean_service_ms_ = 0;
  double expert_ratio_ = 1;  // distinct experts to what uniform choices touch; (0, 1]
  std::uint64_t prefill_steps_ = 0;
  std::uint64_t decode_steps_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace gimbal::policy
