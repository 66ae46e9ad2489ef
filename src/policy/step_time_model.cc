#include "policy/step_time_model.h"

#include <algorithm>
#include <cmath>

namespace gimbal::policy {
namespace {

constexpr double kForgetting = 0.995;   // a step
constexpr double kMeanDecay = 0.95;     // of the mean times and the expert ratio, a step
constexpr double kLeastRelative = 0.1;  // of the mean: shorter times weigh no more than that
constexpr std::uint64_t kLeastSteps = 16;
constexpr std::uint64_t kLeastOfEach = 4;

// Sizes that features usually have. They only keep the equations well scaled.
constexpr double kRows = 128;
constexpr double kContext = 16'384;
constexpr double kPairs = 65'536;

std::array<double, 6> attention_features(const StepShape& step) {
  const double beside_prefill = step.prefill > 0 ? step.decode_context : 0;
  return {1, step.prefill, step.decodes, step.decode_context, step.prefill_context, beside_prefill};
}

// Adds the sample with a residual that counts relative to its time.
template <std::size_t N>
void learn(RecursiveLeastSquares<N>& fit, double& mean_ms, const std::array<double, N>& features,
           double ms) {
  mean_ms = mean_ms == 0 ? ms : kMeanDecay * mean_ms + (1 - kMeanDecay) * ms;
  const double unit = std::max(ms, kLeastRelative * mean_ms);
  if (unit > 0) fit.add(features, ms, 1 / (unit * unit));
}

}  // namespace

double touched_experts(const ExpertShape& experts, double rows) {
  if (experts.experts <= 0) return 0;
  const double missed = 1 - static_cast<double>(experts.choices_per_row) / experts.experts;
  return experts.experts * (1 - std::pow(std::clamp(missed, 0.0, 1.0), rows));
}

StepTimeModel::StepTimeModel(const ExpertShape& experts)
    : experts_(experts),
      attention_({1, kRows, kRows, kContext, kPairs, kContext}, kForgetting),
      service_({1, kRows, std::max(1.0, static_cast<double>(experts.experts))}, kForgetting) {}

void StepTimeModel::note(const StepShape& step, double attention_ms, double service_ms,
                         double distinct_experts) {
  if (!(attention_ms + service_ms > 0) || !(step.rows() > 0)) return;
  learn(attention_, mean_attention_ms_, attention_features(step), attention_ms);
  learn(service_, mean_service_ms_, {1, step.rows(), distinct_experts}, service_ms);
  if (const double uniform = touched_experts(experts_, step.rows());
      uniform > 0 && distinct_experts > 0) {
    const double ratio = std::min(1.0, distinct_experts / uniform);
    expert_ratio_ = kMeanDecay * expert_ratio_ + (1 - kMeanDecay) * ratio;
  }
  ++steps_;
  prefill_steps_ += step.prefill > 0 ? 1 : 0;
  decode_steps_ += step.decodes > 0 ? 1 : 0;
}

bool StepTimeModel::fitted() const {
  return steps_ >= kLeastSteps && prefill_steps_ >= kLeastOfEach && decode_steps_ >= kLeastOfEach;
}

double StepTimeModel::distinct_experts(double rows) const {
  return expert_ratio_ * touched_experts(experts_, rows);
}

double StepTimeModel::step_ms(const StepShape& step) const {
  StepShape decodes = step;
  decodes.prefill = decodes.prefill_context = 0;
  const double experts = distinct_experts(decodes.rows());
  const double base = attention_.predict(attention_features(decodes)) +
                      service_.predict({1, decodes.rows(), experts});
  const double more_experts = distinct_experts(step.rows()) - experts;
  const double slower_context =
      step.prefill > 0 ? clipped(attention_.coefficient(5)) * step.decode_context : 0;
  return clipped(base) + slower_context + prefill_compute_ms(step) +
         clipped(service_.coefficient(2)) * more_experts;
}

double StepTimeModel::mixing_ms(const StepShape& decodes) const {
  const double unread = expert_ratio_ * experts_.experts - distinct_experts(decodes.decodes);
  return clipped(attention_.coefficient(5)) * decodes.decode_context +
         clipped(service_.coefficient(2)) * clipped(unread);
}

double StepTimeModel::prefill_compute_ms(const StepShape& step) const {
  return (clipped(attention_.coefficient(1)) + clipped(service_.coefficient(1))) * step.prefill +
         clipped(attention_.coefficient(4)) * step.prefill_context;
}

PrefillCost StepTimeModel::prefill_cost(int rows) const {
  PrefillCost cost;
  cost.ms_per_token = step_ms({.prefill = static_cast<double>(rows)}) / rows;
  cost.ms_per_square_token = clipped(attention_.coefficient(4)) / 2;
  return cost;
}

StepTimeCoefficients StepTimeModel::coefficients() const {
  StepTimeCoefficients result;
  for (std::size_t i = 0; i < result.attention.size(); ++i)
    result.attention[i] = attention_.coefficient(i);
  for (std::size_t i = 0; i < result.service.size(); ++i)
    result.service[i] = service_.coefficient(i);
  return result;
}

}  // namespace gimbal::policy
