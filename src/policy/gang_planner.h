#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "policy/step_time_model.h"

namespace gimbal::policy {

// How long one rank's part of a gang step takes, from its fitted step times. Value type.
struct GangTimes {
  StepTimeCoefficients coefficients;
  ExpertShape experts;      // all zero: a dense model
  double expert_ratio = 1;  // distinct experts to what uniform choices would touch; (0, 1]

  // nullopt until the model is fitted.
  [[nodiscard]] static std::optional<GangTimes> of(const StepTimeModel& model,
                                                   const ExpertShape& experts);

  // The rank's own stages, ms. Never falls when prefill rows are added.
  [[nodiscard]] double attention_ms(const StepShape& step) const;
  // The expert services, ms, for the rows of all that step together.
  [[nodiscard]] double service_ms(double rows) const;
  // Reading the weights of the experts that `rows` rows touch, ms. A part of service_ms.
  [[nodiscard]] double streaming_ms(double rows) const;

  bool operator==(const GangTimes&) const = default;
};

// A rank that would run a step now, as it says itself.
struct GangMember {
  Rank rank;
  int decodes = 0;                     // D; all of them run
  double decode_context = 0;           // C, tokens that they attend to
  int want = 0;                        // prefill tokens that its former asks for
  int most = 0;                        // F, prefill tokens that it could run now; >= want
  int requests = 1;                    // running and waiting there: whom the step's time concerns
  double prefill_position = 0;         // where its prompts stand; their mean
  int max_rows = 1;                    // of a step (max_num_batched_tokens)
  bool latency_sensitive = true;       // its most urgent work; else all its work is best-effort
  std::optional<double> max_stage_ms;  // its longest stage, over attention's; nullopt: no limit
  std::optional<GangTimes> times;      // nullopt: not fitted yet

  // A step of these decodes and so many prefill tokens.
  [[nodiscard]] StepShape step(int prefill) const;
  // As a step of its own, ms. Requires: times.
  [[nodiscard]] double alone_ms(int prefill) const;

  bool operator==(const GangMember&) const = default;
};

struct GangView {
  std::span<const GangMember> members;  // >= 1
  int layers = 1;                       // of the model: attention stages of a step
};

// Reused from step to step, so that planning allocates nothing.
struct GangPlan {
  std::vector<int> budgets;  // prefill tokens of each member, those that go alone too
  std::vector<bool> alone;   // goes by itself, solo
  double step_ms = 0;        // predicted, of those that go together; 0: nobody's times are fitted
  std::vector<int> limits;   // work space
};

// Decides how much prefill each member of a gang step runs, and who had better go alone
// (docs/design/0010, "Pairing"). Every planner keeps each budget at most min(most, max_rows −
// decodes), and at most what max_stage_ms allows; but neither max_stage_ms nor another member's
// class takes a want below min(want, least_prefill). Stateless; thread-safe.
class GangPlanner {
 public:
  virtual ~GangPlanner() = default;

  // Overwrites `plan`.
  virtual void plan(const GangView& view, GangPlan& plan) const = 0;
};

struct GangPlannerOptions {
  int least_prefill = 16;  // tokens; >= 0
  // pairing: what a best-effort member gets of its want beside latency-sensitive members, even
  // where that makes the step longer, and how much its delay counts beside theirs; [0, 1].
  double best_effort_share = 0.25;
  // pairing: what filling up may add to the step at the services, as a part of the step; >= 0.
  double fill_slack = 0.05;
  // pairing: how much shorter steps must be apart, as a part of what they are together; >= 0.
  double part_gain = 0.05;
  // pairing: how many of its own steps whoever has the shorter ones waits, once apart, for the end
  // of a longer one, to be in step again, counted with each; at most a longer one. As good as half
  // the coordinator's patience; >= 0.
  double rejoin_steps = 4;
};

// By name:
//   as-wanted  each member gets its want; nobody goes alone. The reference.
//   pairing    the slowest member's predicted attention time T for its want is the step's, so every
//              other member fills up to T for free; but only as far as the rows that are added make
//              the services longer by at most fill_slack of the step, for where services compute
//              rather than stream, rows are not free there. A member with best-effort work alone
//              does not make T beside latency-sensitive ones beyond its share of its want, but
//              fills up too. A latency-sensitive member goes alone when that makes the steps
//              shorter on the whole: the sum over members of their requests times their step, those
//              of best-effort members counted by best_effort_share, falls by more than part_gain.
//              Apart they still meet each other's runs at the services, one of every step of the
//              other's, and whose steps are shorter waits later for a longer one to end. Who gains
//              most goes first, until nobody does. Members whose times are not fitted get their
//              want, and do not make T.
// An unknown name or an option out of range is kInvalidArgument.
[[nodiscard]] Result<std::unique_ptr<GangPlanner>> make_gang_planner(
    std::string_view name, const GangPlannerOptions& options);
[[nodiscard]] std::vector<std::string_view> gang_planner_names();

}  // namespace gimbal::policy
