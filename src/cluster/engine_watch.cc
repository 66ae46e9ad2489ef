#include "cluster/engine_watch.h"

#include <algorithm>
#include <cmath>

namespace gimbal::cluster {
namespace {

constexpr double kRateMs = 1000;        // time constant of the rates
constexpr double kOutputWeight = 0.05;  // of one finished request
constexpr double kRecomputeWeight = 0.25;
constexpr int kMostDoublings = 16;

double since(std::uint64_t before, std::uint64_t after) {
  return after > before ? static_cast<double>(after - before) : 0.0;
}

void mix(std::optional<double>& mean, double value, double weight) {
  mean = mean ? *mean + weight * (value - *mean) : value;
}

bool idle(const EngineSnapshot& snapshot) {
  return snapshot.running_requests == 0 && snapshot.waiting_requests == 0;
}

}  // namespace

EngineWatch::EngineWatch(const EngineWatchOptions& options)
    : options_(options), step_ms_(options.first_step_ms), rng_(options.seed) {}

void EngineWatch::note(const EngineSnapshot& snapshot) {
  if (snapshot_ && snapshot.sequence <= snapshot_->sequence) return;
  if (snapshot_) note_rates(*snapshot_, snapshot);
  snapshot_ = snapshot;
  step_ms_ = predict_step_ms();
  moment_ = {.taken = snapshot.taken,
             .step_started = snapshot.step_started,
             .said = true,
             .idle = idle(snapshot),
             .steps = snapshot.running_step.has_value(),
             .timed = snapshot.step_times.has_value() || snapshot.step_expected_ms > 0};
}

void EngineWatch::note_rates(const EngineSnapshot& before, const EngineSnapshot& after) {
  if (const double ms = to_ms(after.taken - before.taken); ms > 0) {
    const double weight = 1 - std::exp(-ms / kRateMs);
    mix(freed_per_ms_, since(before.pages_freed, after.pages_freed) / ms, weight);
    mix(evicted_per_ms_, since(before.pages_evicted, after.pages_evicted) / ms, weight);
  }
  if (const double ended = since(before.finished_requests, after.finished_requests); ended > 0) {
    const double tokens =
        since(before.finished_output_tokens, after.finished_output_tokens) / ended;
    mix(output_tokens_, tokens, 1 - std::pow(1 - kOutputWeight, ended));
  }
  if (const double evicted = since(before.evictions, after.evictions); evicted > 0) {
    mix(recompute_tokens_, since(before.recomputed_tokens, after.recomputed_tokens) / evicted,
        kRecomputeWeight);
  }
}

void EngineWatch::note_health(bool healthy, TimePoint now) {
  if (healthy) {
    failures_ = 0;
    excluded_until_ = {};
    return;
  }
  const double doubled =
      std::ldexp(to_ms(options_.first_exclusion), std::min(failures_, kMostDoublings));
  const double jittered = doubled * (0.5 + rng_.uniform());
  excluded_until_ = now + from_ms(std::min(jittered, to_ms(options_.longest_exclusion)));
  ++failures_;
}

std::optional<policy::StepCosts> EngineWatch::costs() const {
  if (!snapshot_ || !snapshot_->step_times) return std::nullopt;
  return policy::StepCosts{.fitted = *snapshot_->step_times,
                           .experts = snapshot_->experts,
                           .expert_ratio = snapshot_->expert_ratio};
}

double EngineWatch::predict_step_ms() const {
  if (snapshot_->running_step && snapshot_->step_expected_ms > 0) {
    return snapshot_->step_expected_ms;
  }
  const auto fitted = costs();
  if (!fitted) return options_.first_step_ms;
  const policy::StepShape decodes{
      .decodes = static_cast<double>(snapshot_->decodes),
      .decode_context = static_cast<double>(snapshot_->decode_context_tokens)};
  const double ms = fitted->step_ms(snapshot_->running_step.value_or(decodes));
  return ms > 0 ? ms : options_.first_step_ms;
}

double EngineWatch::age_ms(TimePoint now) const {
  if (!moment_.said || moment_.idle) return 0;
  return std::max(0.0, to_ms(now - moment_.taken));
}

policy::Freshness EngineWatch::freshness(TimePoint now) const {
  using policy::Freshness;
  if (now < excluded_until_) return Freshness::kExcluded;
  if (!moment_.said) return Freshness::kLedgerOnly;
  const double age = age_ms(now);
  const double step = predicted_step_ms();
  if (age <= options_.fresh_steps * step) return Freshness::kFresh;
  const double stale = std::max(to_ms(options_.stale_for), options_.stale_steps * step);
  return age <= stale ? Freshness::kStale : Freshness::kLedgerOnly;
}

void EngineWatch::fill_now(TimePoint now, policy::EngineView& view) const {
  view.freshness = freshness(now);
  view.age_ms = age_ms(now);
  if (!moment_.said) return;
  if (!moment_.steps) {
    view.residual_ms = 0;
  } else if (moment_.timed) {
    view.residual_ms = std::max(0.0, predicted_step_ms() - to_ms(now - moment_.step_started));
  }
}

void EngineWatch::fill_said(policy::EngineView& view) const {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  view.output_tokens = output_tokens_;
  view.pages_freed_per_ms = freed_per_ms_;
  view.pages_evicted_per_ms = evicted_per_ms_;
  view.costs = costs();
  if (recompute_tokens_ && view.costs) {
    view.recompute_ms = *recompute_tokens_ * view.costs->prefill_token_ms();
  }
  if (!snapshot_) return;
  const EngineSnapshot& said = *snapshot_;
  view.pages_total = real(said.pages_total);
  view.pages_referenced = real(said.pages_referenced);
  view.page_tokens = real(said.page_tokens);
  view.running_prefill_tokens = real(said.running_prefill_tokens);
  view.step_prefill_tokens = said.running_step ? said.running_step->prefill : 0;
  view.waiting_prefill_tokens = real(said.waiting_prefill_tokens);
  view.waiting_best_effort_prefill_tokens = real(said.waiting_best_effort_prefill_tokens);
  view.waiting_requests = real(said.waiting_requests);
  view.running_requests = real(said.running_requests);
  view.decodes = real(said.decodes);
  view.decode_context = real(said.decode_context_tokens);
  if (said.prefill_tokens_per_second) {
    view.prefill_tokens_per_ms = *said.prefill_tokens_per_second / 1000;
  }
  view.budget = said.budget;
}

}  // namespace gimbal::cluster
