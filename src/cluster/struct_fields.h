#pragma once

#include "cluster/decision_log.h"
#include "cluster/engine.h"
#include "cluster/order_log.h"
#include "policy/dispatch.h"

// The fields of what decisions are made of, for json_fields.h. In the namespaces of the structs,
// where argument-dependent lookup finds them.
namespace gimbal::policy {

// The last value of each enum that is written.
inline std::int64_t last_of(Freshness) {
  return static_cast<std::int64_t>(Freshness::kExcluded);
}
inline std::int64_t last_of(RunningLoad) {
  return static_cast<std::int64_t>(RunningLoad::kContext);
}

template <class Archive>
void fields(Archive& a, StepShape& v) {
  a("prefill", v.prefill);
  a("decodes", v.decodes);
  a("decode_context", v.decode_context);
  a("prefill_context", v.prefill_context);
}

template <class Archive>
void fields(Archive& a, StepTimeCoefficients& v) {
  a("attention", v.attention);
  a("service", v.service);
}

template <class Archive>
void fields(Archive& a, ExpertShape& v) {
  a("experts", v.experts);
  a("choices_per_row", v.choices_per_row);
}

template <class Archive>
void fields(Archive& a, StepCosts& v) {
  a("fitted", v.fitted);
  a("experts", v.experts);
  a("expert_ratio", v.expert_ratio);
}

template <class Archive>
void fields(Archive& a, PrefillBudget& v) {
  a("drain_steps", v.drain_steps);
  a("floor", v.floor);
  a("ceiling", v.ceiling);
}

template <class Archive>
void fields(Archive& a, OrderKey& v) {
  a("level", v.level);
  a("value", v.value);
}

template <class Archive>
void fields(Archive& a, QueueProfile::Point& v) {
  a("key", v.key);
  a("tokens", v.tokens);
  a("requests", v.requests);
}

// Points beyond the most that a profile may have are dropped.
template <class Archive>
void fields(Archive& a, QueueProfile& v) {
  std::vector<QueueProfile::Point> points;
  for (int i = 0; i < v.size(); ++i)
    points.push_back(v[i]);
  a("points", points);
  v = {};
  for (const QueueProfile::Point& point : points) {
    if (v.size() < QueueProfile::kMostPoints) v.add(point);
  }
}

template <class Archive>
void fields(Archive& a, PrefillCost& v) {
  a("ms_per_token", v.ms_per_token);
  a("ms_per_square_token", v.ms_per_square_token);
}

template <class Archive>
void fields(Archive& a, OrderedRequest& v) {
  a("arrival", v.arrival);
  a("job_ms", v.job_ms);
  a("priority", v.priority);
  a("aging", v.aging);
}

template <class Archive>
void fields(Archive& a, RequestOrderOptions& v) {
  a("aging", v.aging);
  a("aging_auto", v.aging_auto);
  a("ms_per_priority_level", v.ms_per_priority_level);
  a("promote_after", v.promote_after);
  a("promote_after_auto", v.promote_after_auto);
}

template <class Archive>
void fields(Archive& a, LedgerCounts& v) {
  a("unseen_requests", v.unseen_requests);
  a("unseen_prefill_tokens", v.unseen_prefill_tokens);
  a("unseen_best_effort_prefill_tokens", v.unseen_best_effort_prefill_tokens);
  a("unseen_pages", v.unseen_pages);
  a("requests", v.requests);
  a("prefill_tokens", v.prefill_tokens);
  a("decodes", v.decodes);
}

template <class Archive>
void fields(Archive& a, DispatchRequest& v) {
  a("prompt_tokens", v.prompt_tokens);
  a("first_tokens", v.first_tokens);
  a("prompt_pages", v.prompt_pages);
  a("choices", v.choices);
  a("best_effort", v.best_effort);
  a("pinned", v.pinned);
  a("last_engine", v.last_engine);
  a("return_probability", v.return_probability);
  a("mean_return_ms", v.mean_return_ms);
}

template <class Archive>
void fields(Archive& a, EngineView& v) {
  a("freshness", v.freshness);
  a("age_ms", v.age_ms);
  a("room", v.room);
  a("group", v.group);
  a("ledger", v.ledger);
  a("hit_tokens", v.hit_tokens);
  a("cached_pages", v.cached_pages);
  a("counted_waiting", v.counted_waiting);
  a("counted_running", v.counted_running);
  a("pages_total", v.pages_total);
  a("pages_referenced", v.pages_referenced);
  a("page_tokens", v.page_tokens);
  a("running_prefill_tokens", v.running_prefill_tokens);
  a("step_prefill_tokens", v.step_prefill_tokens);
  a("waiting_prefill_tokens", v.waiting_prefill_tokens);
  a("waiting_best_effort_prefill_tokens", v.waiting_best_effort_prefill_tokens);
  a("waiting_ahead_tokens", v.waiting_ahead_tokens);
  a("waiting_requests", v.waiting_requests);
  a("running_requests", v.running_requests);
  a("decodes", v.decodes);
  a("decode_context", v.decode_context);
  a("residual_ms", v.residual_ms);
  a("expert_pressure", v.expert_pressure);
  a("output_tokens", v.output_tokens);
  a("pages_freed_per_ms", v.pages_freed_per_ms);
  a("pages_evicted_per_ms", v.pages_evicted_per_ms);
  a("prefill_tokens_per_ms", v.prefill_tokens_per_ms);
  a("recompute_ms", v.recompute_ms);
  a("local_share", v.local_share);
  a("costs", v.costs);
  a("budget", v.budget);
}

template <class Archive>
void fields(Archive& a, EngineScore& v) {
  a("candidate", v.candidate);
  a("score", v.score);
  a("parts", v.parts);
}

template <class Archive>
void fields(Archive& a, DispatchOptions& v) {
  a("kv_limit", v.kv_limit);
  a("lambda", v.lambda);
  a("omega", v.omega);
  a("tie_ms", v.tie_ms);
  a("tie_fraction", v.tie_fraction);
  a("exchange_ms_per_token", v.exchange_ms_per_token);
  a("first_output_tokens", v.first_output_tokens);
  a("shortlist", v.shortlist);
  a("first_costs", v.first_costs);
  a("weight_running", v.weight_running);
  a("weight_waiting", v.weight_waiting);
  a("weight_kv", v.weight_kv);
  a("weight_experts", v.weight_experts);
  a("batch_tokens", v.batch_tokens);
  a("kv_spread", v.kv_spread);
  a("load_spread", v.load_spread);
  a("running_load", v.running_load);
  a("cache_threshold", v.cache_threshold);
  a("balance_absolute", v.balance_absolute);
  a("balance_relative", v.balance_relative);
}

}  // namespace gimbal::policy

namespace gimbal::sched {

template <class Archive>
void fields(Archive& a, OrderDecision& v) {
  a("request", v.request);
  a("best_effort", v.best_effort);
  a("job_tokens", v.job_tokens);
  a("cost", v.cost);
  a("ordered", v.ordered);
  a("key", v.key);
  a("waiting_requests", v.waiting_requests);
  a("waiting_tokens", v.waiting_tokens);
  a("waited", v.waited);
  a("median_wait", v.median_wait);
}

}  // namespace gimbal::sched

namespace gimbal::cluster {

template <class Archive>
void fields(Archive& a, OrderRule& v) {
  a("name", v.name);
  a("options", v.options);
}

template <class Archive>
void fields(Archive& a, OrderRecord& v) {
  a("number", v.number);
  a("time", v.time);
  a("engine", v.engine);
  a("order", v.rule);
  a("decision", v.decision);
}

template <class Archive>
void fields(Archive& a, DecisionRecord& v) {
  a("number", v.number);
  a("time", v.time);
  a("requests", v.requests);
  a("user", v.user);
  a("rule", v.rule);
  a("options", v.options);
  a("request", v.request);
  a("engines", v.engines);
  a("turn", v.turn);
  a("random", v.random);
  a("late_steps", v.late_steps);
  a("engine", v.engine);
  a("scores", v.scores);
}

template <class Archive>
void fields(Archive& a, EngineSnapshot& v) {
  a("sequence", v.sequence);
  a("steps", v.steps);
  a("taken", v.taken);
  a("dispatch_sequence", v.dispatch_sequence);
  a("pages_total", v.pages_total);
  a("pages_referenced", v.pages_referenced);
  a("page_tokens", v.page_tokens);
  a("running_prefill_tokens", v.running_prefill_tokens);
  a("waiting_prefill_tokens", v.waiting_prefill_tokens);
  a("waiting_best_effort_prefill_tokens", v.waiting_best_effort_prefill_tokens);
  a("waiting_requests", v.waiting_requests);
  a("waiting_best_effort_requests", v.waiting_best_effort_requests);
  a("running_requests", v.running_requests);
  a("decodes", v.decodes);
  a("decode_context_tokens", v.decode_context_tokens);
  a("prompt_tokens", v.prompt_tokens);
  a("generated_tokens", v.generated_tokens);
  a("prefix_queried_tokens", v.prefix_queried_tokens);
  a("prefix_hit_tokens", v.prefix_hit_tokens);
  a("evictions", v.evictions);
  a("evictions_for_heads", v.evictions_for_heads);
  a("recomputed_tokens", v.recomputed_tokens);
  a("pages_freed", v.pages_freed);
  a("pages_evicted", v.pages_evicted);
  a("finished_requests", v.finished_requests);
  a("finished_output_tokens", v.finished_output_tokens);
  a("prefill_rows", v.prefill_rows);
  a("expert_rows", v.expert_rows);
  a("distinct_experts", v.distinct_experts);
  a("prefill_tokens_per_second", v.prefill_tokens_per_second);
  a("step_times", v.step_times);
  a("experts", v.experts);
  a("expert_ratio", v.expert_ratio);
  a("queues_profiled", v.queues_profiled);
  a("queue", v.queue);
  a("best_effort_queue", v.best_effort_queue);
  a("prefill_cost", v.prefill_cost);
  a("running_step", v.running_step);
  a("step_started", v.step_started);
  a("step_expected_ms", v.step_expected_ms);
  a("budget", v.budget);
  a("max_waiting_prefill_tokens", v.max_waiting_prefill_tokens);
  a("aging", v.aging);
  a("best_effort_aging", v.best_effort_aging);
}

}  // namespace gimbal::cluster
