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

#include "server/expert_metrics.h"

namespace gimbal::server {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;

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

}  // namespace

struct ServerMetrics::Families {
  Families(const std::string& model_name, const std::string& engine)
      : labels{{"engine", engine}, {"model_name", model_name}} {}

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

  void add_gauge(std::vector<prometheus::MetricFamily>& families, const char* name,
                 const char* help, double value) const {
    prometheus::MetricFamily& family = families.emplace_back();
    family.name = name;
    family.help = help;
    family.type = prometheus::MetricType::Gauge;
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = labels;
    metric.gauge.value = value;
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

ServerMetrics::ServerMetrics(const std::string& model_name, const std::string& engine_label)
    : families_(std::make_unique<Families>(model_name, engine_label)) {}
ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::first_token(Duration since_arrival) {
  families_->first_token.Observe(to_seconds(since_arrival));
}
void ServerMetrics::next_token(Duration since_previous) {
  families_->inter_token.Observe(to_seconds(since_previous));
}
void ServerMetrics::unknown_fields(std::int64_t count) {
  if (count > 0) families_->unknown.Increment(static_cast<double>(count));
}
void ServerMetrics::refused(Refusal reason) {
  families_->refusals[static_cast<std::size_t>(reason)]->Increment();
}

void ServerMetrics::ended(const EndedChoice& choice) {
  families_->ends[static_cast<std::size_t>(choice.end)]->Increment();
  families_->latency.Observe(to_seconds(choice.latency));
  families_->prompt_tokens.Observe(static_cast<double>(choice.prompt_tokens));
  families_->generated_tokens.Observe(static_cast<double>(choice.generated_tokens));
  if (choice.generated_tokens > 1) {
    families_->per_token.Observe(to_seconds(choice.decode) /
                                 static_cast<double>(choice.generated_tokens - 1));
  }
}

std::string ServerMetrics::expose(const EngineReadings& engines, const ServerGauges& gauges) const {
  std::vector<prometheus::MetricFamily> families = families_->registry.Collect();
  for (std::size_t i = 0; i < families.size(); ++i) {
    if (families[i].name != "vllm:inter_token_latency_seconds") continue;
    // Its older name, which dashboards still read.
    prometheus::MetricFamily older = families[i];
    older.name = "vllm:time_per_output_token_seconds";
    families.push_back(std::move(older));
    break;
  }
  families_->add_gauge(families, "gimbal:http_connections", "Open connections.",
                       static_cast<double>(gauges.connections));
  families_->add_gauge(families, "gimbal:choices", "Choices accepted and not ended.",
                       static_cast<double>(gauges.choices));
  add_engine_families(engines, families_->labels[1].value, families);
  if (engines.experts != nullptr) {
    add_expert_metrics(*engines.experts, families_->labels[1].value, families);
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace gimbal::server
