#include "server/engine_metrics.h"

#include <prometheus/metric_family.h>

#include <optional>
#include <string_view>
#include <unordered_map>

namespace gimbal::server {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;

// Collects families whose values are read at the time of the exposition. A family that is given
// again, with other labels, gets one more metric.
class Readings {
 public:
  explicit Readings(std::vector<prometheus::MetricFamily>& families) : families_(families) {}

  void set_labels(Labels labels) { labels_ = std::move(labels); }
  void gauge(std::string name, std::string help, double value) {
    add(std::move(name), std::move(help), prometheus::MetricType::Gauge).gauge.value = value;
  }
  void counter(std::string name, std::string help, double value) {
    add(std::move(name), std::move(help), prometheus::MetricType::Counter).counter.value = value;
  }

 private:
  prometheus::ClientMetric& add(std::string name, std::string help, prometheus::MetricType type) {
    const auto [place, is_new] = places_.emplace(name, families_.size());
    if (is_new) {
      prometheus::MetricFamily& made = families_.emplace_back();
      made.name = std::move(name);
      made.help = std::move(help);
      made.type = type;
    }
    prometheus::MetricFamily& family = families_[place->second];
    family.metric.emplace_back().label = labels_;
    return family.metric.back();
  }

  std::vector<prometheus::MetricFamily>& families_;
  std::unordered_map<std::string, std::size_t> places_;
  Labels labels_;
};

// A step takes base + Σ coefficient · what the name says, as fitted to the times of steps.
void read_step_model(Readings& out, const policy::StepTimeCoefficients& fitted) {
  struct Coefficient {
    const char* name;
    const char* help;
    double value;
  };
  const auto& a = fitted.attention;
  const auto& e = fitted.service;
  for (const Coefficient& each : {
           Coefficient{"attention_seconds", "Fitted: a step's own stages, before any row.", a[0]},
           Coefficient{"attention_seconds_per_prefill_token", "Fitted: own stages, a prompt row.",
                       a[1]},
           Coefficient{"attention_seconds_per_decode", "Fitted: own stages, a decode.", a[2]},
           Coefficient{"attention_seconds_per_decode_context_token",
                       "Fitted: own stages, a token that a decode attends to.", a[3]},
           Coefficient{"attention_seconds_per_prefill_context_token",
                       "Fitted: own stages, a token that a prompt row attends to.", a[4]},
           Coefficient{"attention_seconds_per_decode_context_token_beside_prefill",
                       "Fitted: own stages, more for such a token in a step with prompt rows.",
                       a[5]},
           Coefficient{"service_seconds", "Fitted: a step's experts, before any row.", e[0]},
           Coefficient{"service_seconds_per_row", "Fitted: experts, a row.", e[1]},
           Coefficient{"service_seconds_per_expert", "Fitted: experts, one that a step touches.",
                       e[2]},
       }) {
    out.gauge(std::string("gimbal:step_model_") + each.name, each.help, each.value * 1e-3);
  }
}

void read_requests(Readings& out, const cluster::EngineSnapshot& snapshot) {
  const auto real = [](auto value) { return static_cast<double>(value); };
  out.gauge("vllm:num_requests_running", "Requests that take part in steps.",
            real(snapshot.running_requests));
  out.gauge("vllm:num_requests_waiting", "Requests that wait to be started.",
            real(snapshot.waiting_requests));
  out.gauge("gimbal:waiting_best_effort_requests", "Of them, best-effort ones.",
            real(snapshot.waiting_best_effort_requests));
  out.gauge("gimbal:decodes", "Sequences whose prompt is computed.", real(snapshot.decodes));
  out.gauge("gimbal:decode_context_tokens", "Tokens that the decoding sequences attend to.",
            real(snapshot.decode_context_tokens));
  out.gauge("gimbal:running_prefill_tokens", "Prompt tokens to compute of running requests.",
            real(snapshot.running_prefill_tokens));
  out.gauge("gimbal:waiting_prefill_tokens", "Prompt tokens to compute of waiting requests.",
            real(snapshot.waiting_prefill_tokens));
  out.gauge("gimbal:waiting_best_effort_prefill_tokens",
            "Prompt tokens to compute of waiting best-effort requests.",
            real(snapshot.waiting_best_effort_prefill_tokens));
  out.gauge("vllm:kv_cache_usage_perc", "Referenced KV pages as a fraction of all (1: full).",
            snapshot.pages_total > 0 ? real(snapshot.pages_referenced) / real(snapshot.pages_total)
                                     : 0.0);
  out.gauge("gimbal:kv_pages", "KV pages of the pool.", real(snapshot.pages_total));
  out.gauge("gimbal:kv_page_tokens", "Tokens a KV page holds.", real(snapshot.page_tokens));
  if (snapshot.prefill_tokens_per_second) {
    out.gauge("gimbal:prefill_tokens_per_second", "Measured prefill rate.",
              *snapshot.prefill_tokens_per_second);
  }
  out.gauge("gimbal:aging", "What a ms of waiting outweighs of a job, in ms.", snapshot.aging);
  out.gauge("gimbal:best_effort_aging", "The same of best-effort requests.",
            snapshot.best_effort_aging);
  if (snapshot.step_times) read_step_model(out, *snapshot.step_times);
}

void read_counters(Readings& out, const cluster::EngineSnapshot& snapshot) {
  const auto real = [](auto value) { return static_cast<double>(value); };
  out.counter("vllm:prompt_tokens_total", "Prompt tokens computed or found in the prefix cache.",
              real(snapshot.prompt_tokens));
  out.counter("vllm:generation_tokens_total", "Tokens generated.", real(snapshot.generated_tokens));
  out.counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
              real(snapshot.prefix_queried_tokens));
  out.counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.",
              real(snapshot.prefix_hit_tokens));
  out.counter("vllm:num_preemptions_total",
              "Sequences that lost their KV pages and are computed again.",
              real(snapshot.evictions));
  out.counter("gimbal:evictions_for_heads_total",
              "Of them, best-effort ones that made room for a latency-sensitive request.",
              real(snapshot.evictions_for_heads));
  out.counter("gimbal:kv_pages_freed_total", "Times that a KV page lost its last reference.",
              real(snapshot.pages_freed));
  out.counter("gimbal:kv_pages_evicted_total", "Cached KV pages that gave way to others.",
              real(snapshot.pages_evicted));
  out.counter("gimbal:steps_total", "Steps finished.", real(snapshot.steps));
  out.counter("gimbal:expert_rows_total", "Rows that experts computed.",
              real(snapshot.expert_rows));
  out.counter("gimbal:distinct_experts_total", "Experts that ran, summed over layers and steps.",
              real(snapshot.distinct_experts));
}

// Per layer it would be too many: /debug/experts has those.
void read_work(Readings& out, const cluster::ExpertWork& work, const Labels& common) {
  const auto rows = cluster::by_rank(work.rows, work.ranks);
  const auto distinct = cluster::by_rank(work.distinct_experts, work.ranks);
  for (std::size_t rank = 0; rank < rows.size(); ++rank) {
    Labels labels = common;
    labels.push_back({"rank", std::to_string(rank)});
    out.set_labels(std::move(labels));
    out.counter("gimbal:expert_source_rows_total",
                "The engine's (row, expert) pairs that a rank of its group has run.",
                static_cast<double>(rows[rank]));
    out.counter("gimbal:expert_source_distinct_experts_total",
                "Experts of a rank that ran rows of the engine, summed over runs.",
                static_cast<double>(distinct[rank]));
  }
}

// What the dispatcher knows of an engine beside its snapshot.
void read_dispatch(Readings& out, const cluster::EngineStatus& engine) {
  const policy::EngineView& view = engine.view;
  out.gauge("gimbal:engine_healthy", "Whether the engine can serve (1) or has failed (0).",
            engine.healthy ? 1 : 0);
  out.gauge("gimbal:engine_excluded", "Whether no requests are sent to the engine for now.",
            view.freshness == policy::Freshness::kExcluded ? 1 : 0);
  out.gauge("gimbal:snapshot_age_seconds", "Age of what is known of a busy engine; 0 if it idles.",
            view.age_ms * 1e-3);
  out.gauge("gimbal:predicted_step_seconds", "Predicted time of the step that runs or comes next.",
            engine.predicted_step_ms * 1e-3);
  out.gauge("gimbal:ledger_requests", "Requests sent to the engine that have not ended.",
            view.ledger.requests);
  out.gauge("gimbal:ledger_prefill_tokens", "Their prompt tokens to compute.",
            view.ledger.prefill_tokens);
  out.gauge("gimbal:ledger_unseen_requests", "Of them, those that it has not reported on yet.",
            view.ledger.unseen_requests);
  out.gauge("gimbal:prefix_pages", "KV pages in the engine's prefix cache.", view.cached_pages);
  if (engine.expert_pressure) {
    out.gauge("gimbal:expert_pressure", "Expert work where the engine runs, by the ranks' mean.",
              *engine.expert_pressure);
  }
  out.counter("gimbal:requests_dispatched_total", "Requests sent to the engine.",
              static_cast<double>(engine.dispatched));
}

void read_decisions(Readings& out, const cluster::DispatchStatus& dispatch, const Labels& common) {
  for (int i = 0; i < policy::kDispatchReasons; ++i) {
    Labels labels = common;
    labels.push_back(
        {"reason", std::string(policy::to_string(static_cast<policy::DispatchReason>(i)))});
    labels.push_back({"rule", dispatch.rule});
    out.set_labels(std::move(labels));
    out.counter("gimbal:dispatch_decisions_total",
                "Dispatch decisions, by reason; held ones chose no engine yet.",
                static_cast<double>(dispatch.reasons[static_cast<std::size_t>(i)]));
  }
  out.set_labels(common);
  out.gauge("gimbal:dispatch_queue_groups", "Requests that wait for an engine.",
            static_cast<double>(dispatch.queued_groups));
  out.gauge("gimbal:dispatch_queue_prefill_tokens", "Their prompt tokens.",
            dispatch.queued_prefill_tokens);
}

void read_orders(Readings& out, const std::vector<cluster::OrderCounts>& orders,
                 const std::string& model_name) {
  for (const cluster::OrderCounts& counts : orders) {
    const std::string place = counts.engine ? std::to_string(counts.engine->value()) : "dispatcher";
    for (int i = 0; i < sched::kOrderReasons; ++i) {
      out.set_labels(
          {{"engine", place},
           {"model_name", model_name},
           {"reason", std::string(sched::to_string(static_cast<sched::OrderReason>(i)))}});
      out.counter("gimbal:order_decisions_total",
                  "Decisions on where a request stands in a queue, by reason.",
                  static_cast<double>(counts.reasons[static_cast<std::size_t>(i)]));
    }
  }
}

}  // namespace

void add_engine_families(const EngineReadings& readings, const std::string& model_name,
                         std::vector<prometheus::MetricFamily>& families) {
  Readings out(families);
  for (const cluster::EngineStatus& engine : readings.engines) {
    const Labels labels = {{"engine", std::to_string(engine.engine.value())},
                           {"model_name", model_name}};
    out.set_labels(labels);
    read_requests(out, engine.snapshot);
    read_counters(out, engine.snapshot);
    if (readings.dispatch != nullptr) read_dispatch(out, engine);
    read_work(out, engine.expert_work, labels);
  }
  if (readings.dispatch != nullptr) {
    read_decisions(out, *readings.dispatch, {{"model_name", model_name}});
  }
  read_orders(out, readings.orders, model_name);
}

}  // namespace gimbal::server
