#include "policy/step_forecast.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gimbal::policy {
namespace {

constexpr int kMostSteps = 64;         // stepped forward one by one
constexpr double kFloorShare = 0.25;   // of a decode step, that the automatic floor may take
constexpr double kUnfittedFloor = 64;  // rows
constexpr double kLeastFloor = 16;     // rows; of the automatic floor
constexpr double kMostFloor = 2048;
constexpr int kFineSteps = 8;  // of them, that are evaluated one by one; the others by stride
constexpr int kStride = 4;
constexpr double kNothing = -30;    // an exponent
constexpr double kRounding = 1e-9;  // of a count of steps, by which a sum may be off

// e^x for x <= 0, of which nothing below 1e-13 matters.
double decayed(double x) {
  return x < kNothing ? 0 : std::exp(x);
}

double whole_steps(double steps) {
  return std::max(0.0, std::ceil(steps - kRounding));
}

}  // namespace

void GroupForecast::remember(const RankLoad& load) {
  if (const ExpertShape& experts = load.costs.experts; experts != missed_.experts) {
    missed_.experts = experts;
    missed_.log = experts.experts > experts.choices_per_row
                      ? std::log1p(-static_cast<double>(experts.choices_per_row) / experts.experts)
                      : 0;
  }
  if (const double k = load.budget.drain_steps; k > 1 && k != decay_.drain_steps) {
    decay_.drain_steps = k;
    decay_.log = std::log1p(-1 / k);
    for (std::size_t n = 1; n < decay_.powers.size(); ++n)
      decay_.powers[n] = decay_.powers[n - 1] * (1 - 1 / k);
  }
}

GroupForecast::Rank GroupForecast::rank_of(const RankLoad& load) {
  remember(load);
  const auto& a = load.costs.fitted.attention;
  const auto& e = load.costs.fitted.service;
  const ExpertShape& experts = load.costs.experts;
  Rank rank;
  rank.per_row_attention = clipped(a[1]);
  rank.per_decode_attention = clipped(a[2]);
  rank.per_decode_context = clipped(a[3]);
  rank.per_context_attention = clipped(a[4]);
  const double decodes = clipped(load.decodes);
  rank.base_attention = clipped(a[0]) + rank.per_decode_attention * decodes +
                        rank.per_decode_context * clipped(load.decode_context);
  rank.mixed_attention = clipped(a[5]) * clipped(load.decode_context);
  rank.per_row_service = clipped(e[1]);
  rank.base_service = clipped(e[0]) + rank.per_row_service * decodes;
  rank.per_expert = clipped(e[2]);
  rank.all_experts = load.costs.expert_ratio * experts.experts;
  rank.log_missed = missed_.log;
  rank.missed_decodes = decayed(rank.log_missed * decodes);
  rank.pressure = clipped(load.pressure);
  rank.backlog = clipped(load.backlog);
  rank.ceiling = std::max(1.0, load.budget.ceiling - decodes);
  rank.floor = rank.ceiling;
  if (decodes > 0 && load.budget.drain_steps > 1) {
    rank.drain_steps = load.budget.drain_steps;
    double floor = load.budget.floor;
    if (floor <= 0) {
      const Part rest = step_of(rank, 0);
      const double row_ms = rank.per_row_attention + rank.per_row_service;
      const double mixing =
          rank.mixed_attention + rank.per_expert * rank.all_experts * rank.missed_decodes;
      const double hidden = std::max(kFloorShare * (rest.attention + rest.service), mixing);
      floor = row_ms > 0 ? std::clamp(hidden / row_ms, kLeastFloor, kMostFloor) : kUnfittedFloor;
    }
    rank.floor = std::clamp(floor, 1.0, rank.ceiling);
  }
  return rank;
}

GroupForecast::Part GroupForecast::step_of(const Rank& rank, double rows) {
  const double missed =
      rows > 0 ? rank.missed_decodes * decayed(rank.log_missed * rows) : rank.missed_decodes;
  const double mixed = rows > kRounding ? rank.mixed_attention : 0;
  return {.attention = rank.base_attention + rank.per_row_attention * rows + mixed,
          .service = rank.pressure * (rank.base_service + rank.per_row_service * rows +
                                      rank.per_expert * rank.all_experts * (1 - missed))};
}

std::pair<double, double> GroupForecast::decay_to(double drain_steps, double ratio) const {
  const auto& powers = decay_.powers;
  if (drain_steps != decay_.drain_steps || ratio < powers.back()) {
    const double log = std::log1p(-1 / drain_steps);
    const double steps = whole_steps(std::log(ratio) / log);
    return {steps, decayed(steps * log)};
  }
  std::size_t low = 0;  // the first power that is at most the ratio is in [low, high]
  std::size_t high = powers.size() - 1;
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (powers[middle] <= ratio * (1 + kRounding)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return {static_cast<double>(low), powers[low]};
}

double GroupForecast::steps_until(const Rank& rank, double done, double backlog) const {
  const double target = clipped(backlog - done);  // what is left then
  double left = backlog;
  double steps = 0;
  if (rank.drain_steps > 0) {
    if (const double knee = rank.ceiling * rank.drain_steps; left > knee) {
      const double count = whole_steps((left - knee) / rank.ceiling);
      const double after = left - count * rank.ceiling;
      if (after <= target) return whole_steps((left - target) / rank.ceiling);
      left = after;
      steps += count;
    }
    if (const double knee = rank.floor * rank.drain_steps; left > knee) {
      const auto [count, power] = decay_to(rank.drain_steps, std::max(knee, target) / left);
      if (left * power <= target * (1 + kRounding)) return steps + count;
      left *= power;
      steps += count;
    }
  }
  return steps + whole_steps((left - target) / rank.floor);
}

double GroupForecast::rest_after(const Rank& rank, double backlog, int steps) const {
  double rest = backlog - rank.ceiling * steps;
  if (rank.drain_steps > 0 && backlog <= rank.ceiling * rank.drain_steps) {
    rest = backlog - rank.floor * steps;
    if (backlog > rank.floor * rank.drain_steps) {
      rest = rank.drain_steps == decay_.drain_steps
                 ? backlog * decay_.powers[static_cast<std::size_t>(steps)]
                 : backlog * std::pow(1 - 1 / rank.drain_steps, steps);
    }
  }
  return clipped(rest);
}

void GroupForecast::reset(std::span<const RankLoad> ranks) {
  GIMBAL_CHECK(!ranks.empty());
  ranks_.clear();
  sums_.clear();
  rest_ = {};
  drain_steps_ = 0;
  for (const RankLoad& load : ranks) {
    const Rank& rank = ranks_.emplace_back(rank_of(load));
    const Part rest = step_of(rank, 0);
    rest_.attention = std::max(rest_.attention, rest.attention);
    rest_.service = std::max(rest_.service, rest.service);
    drain_steps_ = std::max(drain_steps_, steps_until(rank, rank.backlog, rank.backlog));
  }
  if (ranks_.size() > 1) {
    step_group();
    const Part sum = sum_until(drain_steps_);
    drain_ms_ = sum.attention + sum.service;
  } else {
    drain_ms_ = time_of(0, drain_steps_, ranks_[0].backlog, 0);
  }
}

void GroupForecast::step_group() {
  left_.clear();
  for (const Rank& rank : ranks_)
    left_.push_back(rank.backlog);
  sums_.emplace_back();
  while (static_cast<int>(sums_.size()) <= kMostSteps &&
         static_cast<double>(sums_.size()) <= drain_steps_) {
    const int stepped = static_cast<int>(sums_.size()) - 1;
    const double most = stepped < kFineSteps ? 1 : kStride;
    const int stride = static_cast<int>(std::clamp(drain_steps_ - stepped, 1.0, most));
    Part slowest;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      const double rest = rest_after(ranks_[i], left_[i], stride);
      const Part part = step_of(ranks_[i], (left_[i] - rest) / stride);
      left_[i] = rest;
      slowest.attention = std::max(slowest.attention, part.attention);
      slowest.service = std::max(slowest.service, part.service);
    }
    for (int step = 0; step < stride; ++step) {
      const Part sum = sums_.back();
      sums_.push_back({sum.attention + slowest.attention, sum.service + slowest.service});
    }
  }
}

GroupForecast::Part GroupForecast::sum_until(double steps) const {
  const double stepped = static_cast<double>(sums_.size()) - 1;
  if (steps <= stepped) return sums_[static_cast<std::size_t>(steps)];
  Part sum = sums_.back();
  if (drain_steps_ > stepped && stepped >= 1) {  // at the last step's pace
    const Part& before = sums_[sums_.size() - 2];
    const double more = std::min(steps, drain_steps_) - stepped;
    const Part pace{sum.attention - before.attention, sum.service - before.service};
    sum.attention += more * pace.attention;
    sum.service += more * pace.service;
  }
  const double after = clipped(steps - std::max(drain_steps_, stepped));
  sum.attention += after * rest_.attention;
  sum.service += after * rest_.service;
  return sum;
}

double GroupForecast::time_of(int rank, double steps, double tokens, double own_context) const {
  if (steps <= 0) return 0;
  const Rank& own = ranks_[static_cast<std::size_t>(rank)];
  const Part part = step_of(own, tokens / steps);
  double attention = steps * part.attention + own.per_context_attention * own_context;
  double service = steps * part.service;
  if (!sums_.empty()) {
    const Part group = sum_until(steps);
    attention = std::max(attention, group.attention);
    service = std::max(service, group.service);
  }
  return attention + service;
}

double GroupForecast::finish_ms(int rank, const ForecastWork& work) const {
  const Rank& own = ranks_[static_cast<std::size_t>(rank)];
  const double ahead = std::min(work.ahead, own.backlog);
  const double tokens = ahead + work.tokens;
  const double context = work.tokens * (work.position + (work.tokens + 1) / 2);
  return time_of(rank, steps_until(own, tokens, own.backlog + work.tokens), tokens, context);
}

double GroupForecast::drain_with_ms(int rank, const ForecastWork& work) const {
  const Rank& own = ranks_[static_cast<std::size_t>(rank)];
  const double tokens = own.backlog + work.tokens;
  const double steps = steps_until(own, tokens, tokens);
  const double context = work.tokens * (work.position + (work.tokens + 1) / 2);
  const double ms = time_of(rank, steps, tokens, context);
  if (sums_.empty() || steps >= drain_steps_) return ms;
  const Part until = sum_until(steps);
  return ms + clipped(drain_ms_ - until.attention - until.service);
}

double GroupForecast::decode_step_ms(int rank, double context) const {
  const Rank& own = ranks_[static_cast<std::size_t>(rank)];
  const double attention =
      own.base_attention + own.per_decode_attention + own.per_decode_context * context;
  const double missed = own.missed_decodes * std::exp(own.log_missed);
  const double service = own.pressure * (own.base_service + own.per_row_service +
                                         own.per_expert * own.all_experts * (1 - missed));
  return std::max(attention, rest_.attention) + std::max(service, rest_.service);
}

double GroupForecast::full_step_ms(int rank) const {
  const Rank& own = ranks_[static_cast<std::size_t>(rank)];
  const Part part = step_of(own, own.ceiling);
  return std::max(part.attention, rest_.attention) + std::max(part.service, rest_.service);
}

}  // namespace gimbal::policy
