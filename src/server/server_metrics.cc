#include "server/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

namespace gimbal::server {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;

double seconds(Duration duration) {
  return to_ms(duration) * 1e-3;
}

// 1, 2, 5, 10, … up to `last`.
std::vector<double> token_buckets(double last) {
  std::vector<double> buckets;
  for (double decade = 1; decade <= last; decade *= 10) {
    for (const double digit : {1.0, 2.0, 5.0}) {
      if (digit * decade <= last) buckets.push_back(digit * decade);
    }
  }
  return buckets;
}

const std::vector<double> kFirstTokenSeconds{0.001, 0.005, 0.01, 0.02, 0.04,  0.06,  0.08, 0.1,
                                             0.25,  0.5,   0.75, 1.0,  2.5,   5.0,   7.5,  10.0,
                                             20.0,  40.0,  80,   160,  640.0, 2560.0};
const std::vector<double> kTokenSeconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                        0.15,  0.2,    0.3,   0.4,  0.5,   0.75, 1.0,   2.5,
                                        5.0,   7.5,    10.0,  20.0, 40.0,  80.0};
const std::vector<double> kRequestSeconds{0.05, 0.1, 0.3,  0.5,  0.8,  1.0,    1.5,   2.0,
                                          2.5,  5.0, 10.0, 15.0, 20.0, 30.0,   40.0,  50.0,
                                          60.0, 120, 240,  480,  960,  1920.0, 7680.0};

constexpr std::array<const char*, 4> kEndNames{"stop", "length", "abort", "error"};
constexpr std::array<const char*, 5> kRefusalNames{"invalid", "unauthorized", "overload",
                                                   "unavailable", "failed"};

// Collects families whose values are read at the time of the exposition.
class Readings {
 public:
  Readings(std::vector<prometheus::MetricFamily>& families, const Labels& labels)
      : families_(families), labels_(labels) {}

  void gauge(std::string name, std::string help, double value) {
    add(std::move(name), std::move(help), prometheus::MetricType::Gauge).gauge.value = value;
  }
  void counter(std::string name, std::string help, double value) {
    add(std::move(name), std::move(help), prometheus::MetricType::Counter).counter.value = value;
  }

 private:
  prometheus::ClientMetric& add(std::string name, std::string help, prometheus::MetricType type) {
    prometheus::MetricFamily& family = families_.emplace_back();
    family.name = std::move(name);
    family.help = std::move(help);
    family.type = type;
    family.metric.emplace_back().label = labels_;
    return family.metric.back();
  }

  std::vector<prometheus::MetricFamily>& families_;
  const Labels& labels_;
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
  out.counter("gimbal:steps_total", "Steps finished.", real(snapshot.steps));
  out.counter("gimbal:expert_rows_total", "Rows that experts computed.",
              real(snapshot.expert_rows));
  out.counter("gimbal:distinct_experts_total", "Experts that ran, summed over layers and steps.",
              real(snapshot.distinct_experts));
}

}  // namespace

struct ServerMetrics::Families {
  explicit Families(const std::string& model_name)
      : labels{{"engine", "0"}, {"model_name", model_name}} {}

  prometheus::Histogram& histogram(const char* name, const char* help,
                                   const std::vector<double>& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(own(),
                                                                                     buckets);
  }
  [[nodiscard]] prometheus::Labels own() const {
    return {{"engine", labels[0].value}, {"model_name", labels[1].value}};
  }
  template <std::size_t N>
  std::array<prometheus::Counter*, N> counters(const char* name, const char* help,
                                               const char* label,
                                               const std::array<const char*, N>& values) {
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry);
    std::array<prometheus::Counter*, N> made{};
    for (std::size_t i = 0; i < N; ++i) {
      auto all = own();
      all.emplace(label, values[i]);
      made[i] = &family.Add(all);
    }
    return made;
  }

  Labels labels;
  prometheus::Registry registry;
  prometheus::Histogram& first_token =
      histogram("vllm:time_to_first_token_seconds", "From a request's arrival to its first token.",
                kFirstTokenSeconds);
  prometheus::Histogram& inter_token = histogram("vllm:inter_token_latency_seconds",
                                                 "Between two tokens of a choice.", kTokenSeconds);
  prometheus::Histogram& per_token =
      histogram("vllm:request_time_per_output_token_seconds",
                "A choice's mean time for each token after the first.", kTokenSeconds);
  prometheus::Histogram& latency =
      histogram("vllm:e2e_request_latency_seconds", "From a request's arrival to a choice's end.",
                kRequestSeconds);
  prometheus::Histogram& prompt_tokens =
      histogram("vllm:request_prompt_tokens", "Prompt tokens of a choice.", token_buckets(200'000));
  prometheus::Histogram& generated_tokens = histogram(
      "vllm:request_generation_tokens", "Tokens generated of a choice.", token_buckets(200'000));
  std::array<prometheus::Counter*, 4> ends = counters(
      "vllm:request_success_total", "Choices ended, by reason.", "finished_reason", kEndNames);
  std::array<prometheus::Counter*, 5> refusals = counters(
      "gimbal:requests_refused_total", "Requests not served, by reason.", "reason", kRefusalNames);
  prometheus::Counter& unknown = prometheus::BuildCounter()
                                     .Name("gimbal:unknown_request_fields_total")
                                     .Help("Fields of requests that were accepted without effect.")
                                     .Register(registry)
                                     .Add(own());
};

ServerMetrics::ServerMetrics(const std::string& model_name)
    : families_(std::make_unique<Families>(model_name)) {}
ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::first_token(Duration since_arrival) {
  families_->first_token.Observe(seconds(since_arrival));
}
void ServerMetrics::next_token(Duration since_previous) {
  families_->inter_token.Observe(seconds(since_previous));
}
void ServerMetrics::unknown_fields(std::int64_t count) {
  if (count > 0) families_->unknown.Increment(static_cast<double>(count));
}
void ServerMetrics::refused(Refusal reason) {
  families_->refusals[static_cast<std::size_t>(reason)]->Increment();
}

void ServerMetrics::ended(const EndedChoice& choice) {
  families_->ends[static_cast<std::size_t>(choice.end)]->Increment();
  families_->latency.Observe(seconds(choice.latency));
  families_->prompt_tokens.Observe(static_cast<double>(choice.prompt_tokens));
  families_->generated_tokens.Observe(static_cast<double>(choice.generated_tokens));
  if (choice.generated_tokens > 1) {
    families_->per_token.Observe(seconds(choice.decode) /
                                 static_cast<double>(choice.generated_tokens - 1));
  }
}

std::string ServerMetrics::expose(const cluster::EngineSnapshot* snapshot,
                                  const ServerGauges& gauges) const {
  std::vector<prometheus::MetricFamily> families = families_->registry.Collect();
  for (std::size_t i = 0; i < families.size(); ++i) {
    if (families[i].name != "vllm:inter_token_latency_seconds") continue;
    // Its older name, which dashboards still read.
    prometheus::MetricFamily older = families[i];
    older.name = "vllm:time_per_output_token_seconds";
    families.push_back(std::move(older));
    break;
  }
  Readings readings(families, families_->labels);
  readings.gauge("gimbal:http_connections", "Open connections.",
                 static_cast<double>(gauges.connections));
  readings.gauge("gimbal:choices", "Choices accepted and not ended.",
                 static_cast<double>(gauges.choices));
  if (snapshot != nullptr) {
    read_requests(readings, *snapshot);
    read_counters(readings, *snapshot);
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace gimbal::server
