#include "server/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <atomic>
#include <deque>
#include <mutex>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "server/expert_metrics.h"

namespace gimbal::server {
namespace {

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

// What is counted of the choices of one engine.
struct ServerMetrics::Choices {
  prometheus::Histogram* first_token = nullptr;
  prometheus::Histogram* inter_token = nullptr;
  prometheus::Histogram* per_token = nullptr;
  prometheus::Histogram* latency = nullptr;
  prometheus::Histogram* prompt_tokens = nullptr;
  prometheus::Histogram* generated_tokens = nullptr;
  std::array<prometheus::Counter*, 4> ends{};
};

struct ServerMetrics::Families {
  using HistogramFamily = prometheus::Family<prometheus::Histogram>;
  using CounterFamily = prometheus::Family<prometheus::Counter>;

  Families(const std::string& model_name, bool several_engines)
      : model(model_name), several(several_engines) {
    if (!several) static_cast<void>(choices_of(EngineId{-1}));
  }

  HistogramFamily& histograms(const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
  }
  CounterFamily& counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  [[nodiscard]] prometheus::Labels labels(const std::string& engine) const {
    return {{"engine", engine}, {"model_name", model}};
  }
  template <std::size_t N>
  std::array<prometheus::Counter*, N> add_all(CounterFamily& family, const std::string& engine,
                                              const char* label,
                                              const std::array<const char*, N>& values) const {
    std::array<prometheus::Counter*, N> added{};
    for (std::size_t i = 0; i < N; ++i) {
      auto all = labels(engine);
      all.emplace(label, values[i]);
      added[i] = &family.Add(all);
    }
    return added;
  }

  // Those of an engine are made when they are first needed.
  [[nodiscard]] Choices& choices_of(EngineId engine) {
    const bool apart = several && engine.value() >= 0 && engine.value() < engines;
    const std::size_t place = apart ? static_cast<std::size_t>(engine.value()) + 1 : 0;
    if (Choices* const known = places[place].load(std::memory_order_acquire)) return *known;
    const std::lock_guard lock(mutex);
    if (Choices* const known = places[place].load(std::memory_order_relaxed)) return *known;
    const char* const together = !several ? "0" : engines > 0 ? "none" : "all";
    Choices& choices = made.emplace_back(make(apart ? std::to_string(engine.value()) : together));
    places[place].store(&choices, std::memory_order_release);
    return choices;
  }

  [[nodiscard]] Choices make(const std::string& engine) const {
    const auto own = labels(engine);
    return {.first_token = &first_token.Add(own, kFirstTokenSeconds),
            .inter_token = &inter_token.Add(own, kTokenSeconds),
            .per_token = &per_token.Add(own, kTokenSeconds),
            .latency = &latency.Add(own, kRequestSeconds),
            .prompt_tokens = &prompt_tokens.Add(own, token_buckets(200'000)),
            .generated_tokens = &generated_tokens.Add(own, token_buckets(200'000)),
            .ends = add_all(ends, engine, "finished_reason", kEndNames)};
  }

  void add_gauge(std::vector<prometheus::MetricFamily>& families, const char* name,
                 const char* help, double value) const {
    prometheus::MetricFamily& family = families.emplace_back();
    family.name = name;
    family.help = help;
    family.type = prometheus::MetricType::Gauge;
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"engine", several ? "all" : "0"}, {"model_name", model}};
    metric.gauge.value = value;
  }

  const std::string model;
  const bool several;
  int engines = 0;  // that are told apart
  prometheus::Registry registry;
  HistogramFamily& first_token = histograms("vllm:time_to_first_token_seconds",
                                            "From a request's arrival to its first token.");
  HistogramFamily& inter_token =
      histograms("vllm:inter_token_latency_seconds", "Between two tokens of a choice.");
  HistogramFamily& per_token = histograms("vllm:request_time_per_output_token_seconds",
                                          "A choice's mean time for each token after the first.");
  HistogramFamily& latency =
      histograms("vllm:e2e_request_latency_seconds", "From a request's arrival to a choice's end.");
  HistogramFamily& prompt_tokens =
      histograms("vllm:request_prompt_tokens", "Prompt tokens of a choice.");
  HistogramFamily& generated_tokens =
      histograms("vllm:request_generation_tokens", "Tokens generated of a choice.");
  CounterFamily& ends = counters("vllm:request_success_total", "Choices ended, by reason.");
  std::array<prometheus::Counter*, 5> refusals =
      add_all(counters("gimbal:requests_refused_total", "Requests not served, by reason."),
              several ? "all" : "0", "reason", kRefusalNames);
  prometheus::Counter& unknown = counters("gimbal:unknown_request_fields_total",
                                          "Fields of requests that were accepted without effect.")
                                     .Add(labels(several ? "all" : "0"));
  std::mutex mutex;
  std::deque<Choices> made;  // guarded by mutex
  // By engine, from 1 on; at 0 those of no engine, or of all together. Null: not made yet.
  std::array<std::atomic<Choices*>, kMostEnginesApart + 1> places{};
};

ServerMetrics::ServerMetrics(const std::string& model_name, bool several_engines)
    : families_(std::make_unique<Families>(model_name, several_engines)) {}
ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::set_engines(int engines) {
  families_->engines = engines <= kMostEnginesApart ? engines : 0;
}

void ServerMetrics::first_token(EngineId engine, Duration since_arrival) {
  families_->choices_of(engine).first_token->Observe(to_seconds(since_arrival));
}
void ServerMetrics::next_token(EngineId engine, Duration since_previous) {
  families_->choices_of(engine).inter_token->Observe(to_seconds(since_previous));
}
void ServerMetrics::unknown_fields(std::int64_t count) {
  if (count > 0) families_->unknown.Increment(static_cast<double>(count));
}
void ServerMetrics::refused(Refusal reason) {
  families_->refusals[static_cast<std::size_t>(reason)]->Increment();
}

void ServerMetrics::ended(const EndedChoice& choice) {
  Choices& of = families_->choices_of(choice.engine);
  of.ends[static_cast<std::size_t>(choice.end)]->Increment();
  of.latency->Observe(to_seconds(choice.latency));
  of.prompt_tokens->Observe(static_cast<double>(choice.prompt_tokens));
  of.generated_tokens->Observe(static_cast<double>(choice.generated_tokens));
  if (choice.generated_tokens > 1) {
    of.per_token->Observe(to_seconds(choice.decode) /
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
  add_engine_families(engines, families_->model, families);
  if (engines.experts != nullptr) {
    add_expert_metrics(*engines.experts, families_->model, families);
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace gimbal::server
