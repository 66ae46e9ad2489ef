#include "policy/gang_planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace gimbal::policy {
namespace {

// The greatest number in [low, high] for which `holds`, which holds up to some number; low if none.
template <class Condition>
int most_that(int low, int high, Condition holds) {
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    if (holds(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// The most prefill tokens in [low, high] whose attention takes at most `ms`; low if none does.
int most_within(const GangMember& member, int low, int high, double ms) {
  return most_that(
      low, high, [&](int tokens) { return member.times->attention_ms(member.step(tokens)) <= ms; });
}

// What the member may run at most. Requires: least >= 0.
int limit_of(const GangMember& member, int layers, int least) {
  const int rows = std::clamp(member.max_rows - member.decodes, 0, std::max(member.most, 0));
  if (!member.times || !member.max_stage_ms) return rows;
  const int floor = std::min({member.want, least, rows});
  return most_within(member, std::max(floor, 0), rows, *member.max_stage_ms * layers);
}

// Overwrites the plan: everybody together, each with its want within its limit.
void start_plan(const GangView& view, int least, GangPlan& plan) {
  plan.budgets.clear();
  plan.limits.clear();
  plan.alone.assign(view.members.size(), false);
  for (const GangMember& member : view.members) {
    plan.limits.push_back(limit_of(member, view.layers, least));
    plan.budgets.push_back(std::clamp(member.want, 0, plan.limits.back()));
  }
}

// Of the members that go together, with their budgets.
struct Together {
  double attention_ms = 0;    // the slowest of those with fitted times
  double but_slowest_ms = 0;  // the slowest of them without that one
  std::size_t slowest = 0;
  double rows = 0;
  int members = 0;

  [[nodiscard]] double attention_without(std::size_t member) const {
    return member == slowest ? but_slowest_ms : attention_ms;
  }
};

Together together(const GangView& view, const GangPlan& plan) {
  Together all;
  for (std::size_t i = 0; i < view.members.size(); ++i) {
    if (plan.alone[i]) continue;
    const GangMember& member = view.members[i];
    ++all.members;
    all.rows += member.decodes + plan.budgets[i];
    if (!member.times) continue;
    const double ms = member.times->attention_ms(member.step(plan.budgets[i]));
    if (ms > all.attention_ms) {
      all.but_slowest_ms = all.attention_ms;
      all.attention_ms = ms;
      all.slowest = i;
    } else {
      all.but_slowest_ms = std::max(all.but_slowest_ms, ms);
    }
  }
  return all;
}

// Of the services, for `rows` rows of those that go together.
double service_ms(const GangView& view, const GangPlan& plan, double rows) {
  double ms = 0;
  for (std::size_t i = 0; i < view.members.size(); ++i) {
    if (plan.alone[i] || !view.members[i].times) continue;
    ms = std::max(ms, view.members[i].times->service_ms(rows));
  }
  return ms;
}

double predicted_ms(const GangView& view, const GangPlan& plan) {
  const Together all = together(view, plan);
  return all.attention_ms + service_ms(view, plan, all.rows);
}

class AsWanted final : public GangPlanner {
 public:
  explicit AsWanted(const GangPlannerOptions& options) : options_(options) {}

  void plan(const GangView& view, GangPlan& plan) const override {
    start_plan(view, options_.least_prefill, plan);
    plan.step_ms = predicted_ms(view, plan);
  }

 private:
  GangPlannerOptions options_;
};

class Pairing final : public GangPlanner {
 public:
  explicit Pairing(const GangPlannerOptions& options) : options_(options) {}

  void plan(const GangView& view, GangPlan& plan) const override {
    start_plan(view, options_.least_prefill, plan);
    while (true) {
      pair(view, plan);
      const int worst = who_goes_alone(view, plan);
      if (worst < 0) break;
      plan.alone[static_cast<std::size_t>(worst)] = true;
      plan.budgets[static_cast<std::size_t>(worst)] = wanted(view, plan, worst);
    }
    plan.step_ms = predicted_ms(view, plan);
  }

 private:
  static int wanted(const GangView& view, const GangPlan& plan, int i) {
    const auto at = static_cast<std::size_t>(i);
    return std::clamp(view.members[at].want, 0, plan.limits[at]);
  }

  // Sets the budgets of those that go together.
  void pair(const GangView& view, GangPlan& plan) const {
    bool sensitive = false;
    for (std::size_t i = 0; i < view.members.size(); ++i)
      sensitive = sensitive || (!plan.alone[i] && view.members[i].latency_sensitive);
    const int count = static_cast<int>(view.members.size());
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (plan.alone[at]) continue;
      int& budget = plan.budgets[at];
      budget = wanted(view, plan, i);
      if (sensitive && !view.members[at].latency_sensitive && view.members[at].times) {
        const int share = static_cast<int>(std::ceil(options_.best_effort_share * budget));
        budget = std::min(budget, std::max(share, options_.least_prefill));
      }
    }
    fill(view, plan);
  }

  // Lets members run more than they want while that makes the step hardly longer.
  void fill(const GangView& view, GangPlan& plan) const {
    const Together all = together(view, plan);
    double rows = all.rows;
    const double allowed_ms =
        service_ms(view, plan, rows) + options_.fill_slack * predicted_ms(view, plan);
    for (std::size_t i = 0; i < view.members.size(); ++i) {
      if (plan.alone[i] || !view.members[i].times) continue;
      int& budget = plan.budgets[i];
      const int most = most_within(view.members[i], budget, plan.limits[i], all.attention_ms);
      const auto fits = [&](int tokens) {
        return service_ms(view, plan, rows + tokens - budget) <= allowed_ms;
      };
      const int filled = most_that(budget, most, fits);
      rows += filled - budget;
      budget = filled;
    }
  }

  [[nodiscard]] double weight(const GangMember& member) const {
    return std::max(member.requests, 1) *
           (member.latency_sensitive ? 1.0 : options_.best_effort_share);
  }

  // The latency-sensitive member whose going alone shortens the steps most, or -1.
  [[nodiscard]] int who_goes_alone(const GangView& view, const GangPlan& plan) const {
    const Together all = together(view, plan);
    if (all.members < 2) return -1;
    double weights = 0;
    for (std::size_t i = 0; i < view.members.size(); ++i)
      weights += plan.alone[i] ? 0 : weight(view.members[i]);
    int best = -1;
    double most_saved = 0;
    for (std::size_t i = 0; i < view.members.size(); ++i) {
      const GangMember& member = view.members[i];
      if (plan.alone[i] || !member.latency_sensitive || !member.times) continue;
      const double together_ms = all.attention_ms + member.times->service_ms(all.rows);
      const Apart apart = part(member, plan.budgets[i], all, i);
      const double saved = (1 - options_.part_gain) * weights * together_ms -
                           weight(member) * apart.own_ms -
                           (weights - weight(member)) * apart.others_ms;
      if (saved > most_saved) {
        most_saved = saved;
        best = static_cast<int>(i);
      }
    }
    return best;
  }

  // Steps of a member that goes alone and of the others. In one step of the longer kind each meets
  // the runs of several steps of the shorter kind at the services; those of the shorter kind come
  // out of phase, and wait.
  struct Apart {
    double own_ms = 0;
    double others_ms = 0;
  };
  [[nodiscard]] Apart part(const GangMember& member, int budget, const Together& all,
                           std::size_t i) const {
    const GangTimes& times = *member.times;
    const double rows = member.decodes + budget;
    const double own_service_ms = times.service_ms(rows);
    const double others_service_ms = times.service_ms(all.rows - rows);
    const double own_ms = times.attention_ms(member.step(budget)) + own_service_ms;
    const double others_ms = all.attention_without(i) + others_service_ms;
    if (own_ms <= 0 || others_ms <= 0) return {.own_ms = own_ms, .others_ms = others_ms};
    Apart apart{.own_ms = own_ms + others_service_ms * own_ms / others_ms};
    apart.others_ms = others_ms + own_service_ms * others_ms / apart.own_ms;
    double& shorter_ms = apart.own_ms < apart.others_ms ? apart.own_ms : apart.others_ms;
    const double longer_ms = std::max(apart.own_ms, apart.others_ms);
    shorter_ms += std::min(options_.rejoin_steps * shorter_ms, longer_ms);
    return apart;
  }

  GangPlannerOptions options_;
};

}  // namespace

std::optional<GangTimes> GangTimes::of(const StepTimeModel& model, const ExpertShape& experts) {
  if (!model.fitted()) return std::nullopt;
  GangTimes times{.coefficients = model.coefficients(), .experts = experts};
  // One row touches choices_per_row experts whatever it chooses.
  if (experts.choices_per_row > 0) {
    times.expert_ratio = model.distinct_experts(1) / experts.choices_per_row;
  }
  return times;
}

double GangTimes::attention_ms(const StepShape& step) const {
  const auto& a = coefficients.attention;
  const double slower_context = step.prefill > 0 ? clipped(a[5]) * step.decode_context : 0;
  return clipped(a[0] + a[2] * step.decodes + a[3] * step.decode_context) + slower_context +
         clipped(a[1]) * step.prefill + clipped(a[4]) * step.prefill_context;
}

double GangTimes::service_ms(double rows) const {
  return clipped(coefficients.service[0] + coefficients.service[1] * rows) + streaming_ms(rows);
}

double GangTimes::streaming_ms(double rows) const {
  return clipped(coefficients.service[2]) * expert_ratio * touched_experts(experts, rows);
}

StepShape GangMember::step(int prefill) const {
  StepShape shape{.decodes = static_cast<double>(decodes), .decode_context = decode_context};
  shape.add_prefill(prefill_position, prefill);
  return shape;
}

double GangMember::alone_ms(int prefill) const {
  return times->attention_ms(step(prefill)) + times->service_ms(decodes + prefill);
}

Result<std::unique_ptr<GangPlanner>> make_gang_planner(std::string_view name,
                                                       const GangPlannerOptions& options) {
  if (options.least_prefill < 0) {
    return invalid_argument(
        fmt::format("least_prefill must not be negative: {}", options.least_prefill),
        "least_prefill");
  }
  if (!(options.best_effort_share >= 0 && options.best_effort_share <= 1)) {
    return invalid_argument(
        fmt::format("best_effort_share must be from 0 to 1: {}", options.best_effort_share),
        "best_effort_share");
  }
  using Made = std::unique_ptr<GangPlanner>;
  if (!(options.fill_slack >= 0)) {
    return invalid_argument(fmt::format("fill_slack must not be negative: {}", options.fill_slack),
                            "fill_slack");
  }
  if (!(options.part_gain >= 0)) {
    return invalid_argument(fmt::format("part_gain must not be negative: {}", options.part_gain),
                            "part_gain");
  }
  if (!(options.rejoin_steps >= 0)) {
    return invalid_argument(
        fmt::format("rejoin_steps must not be negative: {}", options.rejoin_steps), "rejoin_steps");
  }
  if (name == "as-wanted") return Made(std::make_unique<AsWanted>(options));
  if (name == "pairing") return Made(std::make_unique<Pairing>(options));
  return invalid_argument(fmt::format("gang planner must be as-wanted or pairing: {}", name),
                          "name");
}

std::vector<std::string_view> gang_planner_names() {
  return {"as-wanted", "pairing"};
}

}  // namespace gimbal::policy
