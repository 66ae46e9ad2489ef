#include "policy/dispatch_candidates.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::policy {
namespace {

// Prefill tokens that an old snapshot's engine has computed since.
double drained(const EngineView& engine) {
  if (engine.freshness != Freshness::kStale) return 0;
  return engine.prefill_tokens_per_ms.value_or(0) * engine.age_ms;
}

// Of waiting prefill: what was computed of it since the snapshot.
double drained_waiting(const EngineView& engine) {
  return std::max(0.0, drained(engine) - engine.running_prefill_tokens.value_or(0));
}

int distance(int engine, std::uint64_t turn, std::size_t engines) {
  const auto first = static_cast<int>(turn % engines);
  const auto count = static_cast<int>(engines);
  return (engine - first + count) % count;
}

}  // namespace

std::optional<double> EngineView::kv_usage() const {
  if (freshness == Freshness::kLedgerOnly || !pages_total || !pages_referenced ||
      *pages_total <= 0) {
    return std::nullopt;
  }
  return std::min(1.0, (*pages_referenced + ledger.unseen_pages) / *pages_total);
}

std::optional<double> running_tokens(const EngineView& engine) {
  if (engine.freshness == Freshness::kLedgerOnly) return 0;  // all counts as waiting
  if (!engine.running_prefill_tokens) return std::nullopt;
  return std::max(0.0, *engine.running_prefill_tokens - drained(engine));
}

std::optional<double> tokens_after_step(const EngineView& engine) {
  if (engine.freshness == Freshness::kLedgerOnly) return 0;
  if (!engine.running_prefill_tokens) return std::nullopt;
  // When the step ends is the residual; while that is not known, its rows count as ahead.
  const double step = engine.residual_ms ? engine.step_prefill_tokens : 0;
  const double computed = std::max(drained(engine), step);
  return std::max(0.0, *engine.running_prefill_tokens - computed);
}

std::optional<double> waiting_tokens(const EngineView& engine) {
  if (engine.freshness == Freshness::kLedgerOnly) return engine.ledger.prefill_tokens;
  if (!engine.waiting_prefill_tokens) return std::nullopt;
  return std::max(0.0, *engine.waiting_prefill_tokens - drained_waiting(engine)) +
         engine.ledger.unseen_prefill_tokens;
}

std::optional<double> prefill_tokens(const EngineView& engine) {
  const auto running = running_tokens(engine);
  const auto waiting = waiting_tokens(engine);
  if (!running || !waiting) return std::nullopt;
  return *running + *waiting;
}

std::optional<double> tokens_ahead(const DispatchRequest& request, const EngineView& engine) {
  if (engine.freshness == Freshness::kLedgerOnly || !engine.waiting_ahead_tokens) {
    return std::nullopt;
  }
  const LedgerCounts& ledger = engine.ledger;
  const double unseen = ledger.unseen_prefill_tokens -
                        (request.best_effort ? 0 : ledger.unseen_best_effort_prefill_tokens);
  return std::max(0.0, *engine.waiting_ahead_tokens - drained_waiting(engine)) + unseen;
}

std::optional<double> best_effort_tokens(const EngineView& engine) {
  const std::optional<double> waiting = waiting_tokens(engine);
  if (!waiting || engine.freshness == Freshness::kLedgerOnly ||
      !engine.waiting_best_effort_prefill_tokens) {
    return std::nullopt;
  }
  return std::min(*waiting, *engine.waiting_best_effort_prefill_tokens +
                                engine.ledger.unseen_best_effort_prefill_tokens);
}

std::optional<double> requests_of(const EngineView& engine) {
  if (engine.freshness == Freshness::kLedgerOnly) return engine.ledger.requests;
  if (!engine.running_requests || !engine.waiting_requests) return std::nullopt;
  return *engine.running_requests + *engine.waiting_requests + engine.ledger.unseen_requests;
}

void take(DispatchDecision& decision, int engine, DispatchReason reason) {
  decision.engine = engine;
  decision.reason = reason;
}

int least_ledger(const DispatchView& view, const std::vector<int>& candidates) {
  GIMBAL_CHECK(!candidates.empty());
  const auto before = [&view](int left, int right) {
    const LedgerCounts& a = engine_at(view, left).ledger;
    const LedgerCounts& b = engine_at(view, right).ledger;
    if (a.prefill_tokens != b.prefill_tokens) return a.prefill_tokens < b.prefill_tokens;
    if (a.requests != b.requests) return a.requests < b.requests;
    return distance(left, view.turn, view.engines.size()) <
           distance(right, view.turn, view.engines.size());
  };
  return *std::min_element(candidates.begin(), candidates.end(), before);
}

ScoreRange score_range(const DispatchDecision& decision) {
  const double first = score_at(decision, decision.candidates.front()).score;
  ScoreRange range{.least = first, .most = first};
  for (const int i : decision.candidates) {
    const double score = score_at(decision, i).score;
    range.least = std::min(range.least, score);
    range.most = std::max(range.most, score);
  }
  return range;
}

void collect_lowest(DispatchDecision& decision) {
  const double lowest = score_range(decision).least;
  decision.members.clear();
  for (const int i : decision.candidates) {
    if (score_at(decision, i).score <= lowest) decision.members.push_back(i);
  }
}

void take_lowest(const DispatchView& view, DispatchDecision& decision) {
  collect_lowest(decision);
  const bool tie = decision.members.size() > 1;
  take(decision, tie ? least_ledger(view, decision.members) : decision.members.front(),
       tie ? DispatchReason::kTie : DispatchReason::kBest);
}

bool collect_candidates(const DispatchView& view, DispatchDecision& decision,
                        std::optional<double> kv_limit) {
  GIMBAL_CHECK(!view.engines.empty());
  const auto count = static_cast<int>(view.engines.size());
  std::vector<int>& candidates = decision.candidates;
  candidates.clear();
  const auto collect = [&](bool excluded, bool without_room) {
    for (int i = 0; i < count; ++i) {
      const EngineView& engine = engine_at(view, i);
      if (!excluded && engine.freshness == Freshness::kExcluded) continue;
      if (without_room || engine.room) candidates.push_back(i);
    }
    return !candidates.empty();
  };
  const bool open = !collect(false, false);
  if (open && !collect(true, false)) collect(true, true);
  if (kv_limit) {
    const auto full = [&](int i) { return engine_at(view, i).kv_usage().value_or(0) > *kv_limit; };
    if (!std::all_of(candidates.begin(), candidates.end(), full)) std::erase_if(candidates, full);
  }
  decision.scores.assign(view.engines.size(), {});
  for (const int i : candidates)
    score_at(decision, i).candidate = true;
  if (open) {
    take(decision, least_ledger(view, candidates), DispatchReason::kFailOpen);
    return false;
  }
  if (candidates.size() == 1) {
    take(decision, candidates.front(), DispatchReason::kOnly);
    return false;
  }
  return true;
}

}  // namespace gimbal::policy
