#pragma once

#include <optional>
#include <vector>

#include "policy/dispatch.h"

// What the dispatch rules share: who may be chosen, what unknown values become, how ties end.
namespace gimbal::policy {

[[nodiscard]] inline const EngineView& engine_at(const DispatchView& view, int engine) {
  return view.engines[static_cast<std::size_t>(engine)];
}
[[nodiscard]] inline EngineScore& score_at(DispatchDecision& decision, int engine) {
  return decision.scores[static_cast<std::size_t>(engine)];
}
[[nodiscard]] inline const EngineScore& score_at(const DispatchDecision& decision, int engine) {
  return decision.scores[static_cast<std::size_t>(engine)];
}

// Fills `decision.candidates` with the engines that are not excluded, and resets the rest of the
// decision. False: there are none or one, and the decision is made.
[[nodiscard]] bool collect_candidates(const DispatchView& view, DispatchDecision& decision,
                                      std::optional<double> kv_limit = std::nullopt);

// Takes `engine`.
void take(DispatchDecision& decision, int engine, DispatchReason reason);

// The least-ledger engine of the candidates: fewest prefill tokens sent and not computed, then
// fewest requests, then the first at or after the turn.
[[nodiscard]] int least_ledger(const DispatchView& view, const std::vector<int>& candidates);

// Of the candidates' scores. Requires: there are candidates.
struct ScoreRange {
  double least = 0;
  double most = 0;
};
[[nodiscard]] ScoreRange score_range(const DispatchDecision& decision);

// Fills `decision.members` with the candidates of the lowest score, in order of index.
void collect_lowest(DispatchDecision& decision);
// Takes the lowest score of the candidates; equal ones by ledger, then in turn.
void take_lowest(const DispatchView& view, DispatchDecision& decision);

// Of an engine: what the newest snapshot says, drained by its age, and the ledger. nullopt:
// unknown.
[[nodiscard]] std::optional<double> running_tokens(const EngineView& engine);  // R
// Of R, what is left when the running step has ended.
[[nodiscard]] std::optional<double> tokens_after_step(const EngineView& engine);
[[nodiscard]] std::optional<double> waiting_tokens(const EngineView& engine);      // W
[[nodiscard]] std::optional<double> prefill_tokens(const EngineView& engine);      // R + W
[[nodiscard]] std::optional<double> best_effort_tokens(const EngineView& engine);  // of W
// Of W, what runs before the request; the ledger's unseen requests of its class and above do.
[[nodiscard]] std::optional<double> tokens_ahead(const DispatchRequest& request,
                                                 const EngineView& engine);
[[nodiscard]] std::optional<double> requests_of(const EngineView& engine);

// The mean over the candidates that know `value`; nullopt: none does. `value`: EngineView →
// optional.
template <class Value>
std::optional<double> mean_known(const DispatchView& view, const std::vector<int>& candidates,
                                 Value value) {
  double sum = 0;
  int count = 0;
  for (const int i : candidates) {
    if (const std::optional<double> known = value(engine_at(view, i))) {
      sum += *known;
      ++count;
    }
  }
  if (count == 0) return std::nullopt;
  return sum / count;
}

// Scores every candidate by `value`, unknown ones by the mean of the others.
template <class Value>
void score_by(const DispatchView& view, DispatchDecision& decision, Value value) {
  const double mean = mean_known(view, decision.candidates, value).value_or(0);
  for (const int i : decision.candidates) {
    score_at(decision, i).score = value(engine_at(view, i)).value_or(mean);
  }
}

}  // namespace gimbal::policy
