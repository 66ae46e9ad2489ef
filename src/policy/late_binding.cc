#include "policy/late_binding.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gimbal::policy {
namespace {

bool is_near(const EngineView& engine, bool best_effort, double late_steps) {
  if (engine.freshness == Freshness::kLedgerOnly) return engine.ledger.requests == 0;
  const LedgerCounts& ledger = engine.ledger;
  const double flexible = engine.waiting_best_effort_prefill_tokens.value_or(0) +
                          ledger.unseen_best_effort_prefill_tokens;
  const double waiting = engine.waiting_prefill_tokens.value_or(0) + ledger.unseen_prefill_tokens;
  const double ahead =
      engine.running_prefill_tokens.value_or(0) + (best_effort ? flexible : waiting - flexible);
  const double rows = std::max(1.0, engine.budget.ceiling - engine.decodes.value_or(0));
  return ahead <= late_steps * rows;
}

bool has_pages(const EngineView& engine, double first_tokens) {
  if (engine.freshness == Freshness::kLedgerOnly) return true;
  if (!engine.pages_total || !engine.pages_referenced) return true;
  const double need =
      std::ceil(first_tokens / engine.page_tokens) - engine.hit_tokens / engine.page_tokens;
  return *engine.pages_referenced + engine.ledger.unseen_pages + std::max(0.0, need) <=
         *engine.pages_total;
}

}  // namespace

LateHold limit_to_soon(const DispatchRequest& request, double late_steps,
                       std::span<EngineView> engines) {
  const auto near = [&](const EngineView& engine) {
    return engine.room && is_near(engine, request.best_effort, late_steps);
  };
  bool any_near = false;
  bool any = false;
  bool all_empty = true;
  for (const EngineView& engine : engines) {
    all_empty = all_empty && engine.ledger.requests == 0;
    if (engine.freshness == Freshness::kExcluded || !near(engine)) continue;
    any_near = true;
    any = any || has_pages(engine, request.first_tokens);
  }
  if (any) {
    for (EngineView& engine : engines)
      engine.room = near(engine) && has_pages(engine, request.first_tokens);
    return LateHold::kNone;
  }
  const bool gone =
      request.pinned &&
      engines[static_cast<std::size_t>(*request.pinned)].freshness == Freshness::kExcluded;
  if (all_empty || gone) return LateHold::kNone;
  return any_near ? LateHold::kPages : LateHold::kWork;
}

DispatchReason reason_of(LateHold hold) {
  GIMBAL_CHECK(hold != LateHold::kNone);
  return hold == LateHold::kWork ? DispatchReason::kHeldForWork : DispatchReason::kHeldForPages;
}

}  // namespace gimbal::policy
