#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "cost/profile_fit.h"
#include "cost/units.h"

namespace gimbal::cost {
namespace {

constexpr std::size_t kLeastGangSteps = 20;
constexpr double kFreeRate = 1e6;  // GB/s: bytes take nothing

// A gang step as its members measured it.
struct GangStep {
  std::size_t members = 0;
  double rows = 0;
  double longest_attention_ms = 0;
  double service_ms = 0;  // summed
  double whole_ms = 0;    // the longest
};

std::vector<GangStep> gang_steps(std::span<const std::vector<MeasuredStep>> ranks) {
  std::map<std::uint64_t, GangStep> steps;
  for (const std::vector<MeasuredStep>& rank : ranks) {
    for (const MeasuredStep& step : rank) {
      if (step.gang_step == 0) continue;
      GangStep& gang = steps[step.gang_step];
      ++gang.members;
      gang.rows += step.work.prefill_rows + step.work.decodes;
      gang.longest_attention_ms = std::max(gang.longest_attention_ms, step.attention_ms);
      gang.service_ms += step.service_ms;
      gang.whole_ms = std::max(gang.whole_ms, step.whole_ms);
    }
  }
  std::vector<GangStep> complete;
  for (const auto& [number, gang] : steps) {
    if (gang.members == ranks.size()) complete.push_back(gang);
  }
  return complete;
}

// y = base + slope·x by least squares, neither below 0.
struct Line {
  double base = 0;
  double slope = 0;
};

Line fit_line(std::span<const double> x, std::span<const double> y) {
  double sum_x = 0;
  double sum_y = 0;
  double sum_xx = 0;
  double sum_xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum_x += x[i];
    sum_y += y[i];
    sum_xx += x[i] * x[i];
    sum_xy += x[i] * y[i];
  }
  const auto n = static_cast<double>(x.size());
  const double spread = n * sum_xx - sum_x * sum_x;
  Line line;
  line.slope = spread > 0 ? std::max(0.0, (n * sum_xy - sum_x * sum_y) / spread) : 0.0;
  line.base = (sum_y - line.slope * sum_x) / n;
  if (line.base < 0) {
    line.base = 0;
    line.slope = sum_xx > 0 ? std::max(0.0, sum_xy / sum_xx) : 0.0;
  }
  return line;
}

}  // namespace

Result<HardwareProfile> fit_group_steps(const ModelShape& model,
                                        std::span<const std::vector<MeasuredStep>> ranks,
                                        const HardwareProfile& start, std::string_view origin) {
  std::vector<MeasuredStep> all;
  for (const std::vector<MeasuredStep>& rank : ranks)
    all.insert(all.end(), rank.begin(), rank.end());
  GIMBAL_ASSIGN_OR_RETURN(HardwareProfile profile, fit_steps(model, all, start, origin));
  const std::vector<GangStep> steps = gang_steps(ranks);
  if (steps.size() < kLeastGangSteps || model.moe_layers() == 0) {
    return invalid_argument(
        fmt::format("a fit of the exchange needs at least {} steps of all {} ranks together, there "
                    "are {}",
                    kLeastGangSteps, ranks.size(), steps.size()),
        "steps");
  }
  const auto count = static_cast<double>(ranks.size());
  const double messages = 2.0 * model.moe_layers();
  std::vector<double> bytes;
  std::vector<double> exchange;
  for (const GangStep& step : steps) {
    const double away = step.rows / count * model.experts_per_token * (count - 1) / count;
    bytes.push_back(messages * away * model.row_bytes());
    exchange.push_back(step.whole_ms - step.longest_attention_ms - step.service_ms / count);
  }
  const Line line = fit_line(bytes, exchange);
  profile.same_node.latency_us = line.base / messages / kMsOfUs;
  profile.same_node.gb_per_s =
      line.slope > 0 ? std::clamp(kMsOfGb / line.slope, 1e-3, kFreeRate) : kFreeRate;
  profile.step.step_us = 0;
  profile.step.sampled_us = 0;
  FitNote note{.what = "gang steps, from plan to plan: what attention and service leave",
               .from = std::string(origin),
               .points = static_cast<int>(steps.size()),
               .fields = {"same_node.latency_us", "same_node.gb_per_s"}};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double predicted = steps[i].whole_ms - exchange[i] + line.base + line.slope * bytes[i];
    const double error = std::abs(predicted / steps[i].whole_ms - 1) * 100;
    note.mean_error_percent += error / static_cast<double>(steps.size());
    note.max_error_percent = std::max(note.max_error_percent, error);
  }
  profile.fitted.back() = std::move(note);  // in place of whole steps of one rank
  return profile;
}

}  // namespace gimbal::cost
