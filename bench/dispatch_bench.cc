// How long one dispatch decision takes, by rule and number of engines: of the rule alone, and of
// the dispatcher with all that it does for a request: `dispatch_bench`.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "base/random.h"
#include "cluster/dispatcher.h"
#include "policy/dispatch.h"

namespace gimbal {
namespace {

using policy::Dispatch;
using policy::DispatchDecision;
using policy::DispatchView;
using policy::EngineView;

constexpr int kRounds = 15;

EngineView random_engine(Rng& rng, int group) {
  EngineView view;
  view.group = group;
  view.hit_tokens = static_cast<double>(rng.below(500));
  view.pages_total = 4096;
  view.pages_referenced = static_cast<double>(rng.below(3600));
  view.running_prefill_tokens = static_cast<double>(rng.below(5000));
  view.waiting_prefill_tokens = static_cast<double>(rng.below(50'000));
  view.waiting_best_effort_prefill_tokens = 0;
  view.waiting_requests = static_cast<double>(rng.below(50));
  view.running_requests = static_cast<double>(rng.below(50));
  view.decodes = static_cast<double>(1 + rng.below(50));
  view.decode_context = static_cast<double>(rng.below(50'000));
  view.residual_ms = rng.uniform() * 50;
  view.expert_pressure = 0.5 + rng.uniform();
  view.output_tokens = static_cast<double>(rng.below(500));
  view.pages_freed_per_ms = rng.uniform();
  view.pages_evicted_per_ms = rng.uniform();
  view.prefill_tokens_per_ms = 10 * rng.uniform();
  view.recompute_ms = 100 * rng.uniform();
  view.costs = policy::StepCosts{
      .fitted = {.attention = {1, 0.1, 0.1, 1e-5, 1e-7}, .service = {1, 0.01, 0.001}},
      .experts = {.experts = 6144, .choices_per_row = 384},
      .expert_ratio = 0.8};
  view.budget = {.drain_steps = 8, .floor = 0, .ceiling = 2048};
  return view;
}

double median(std::vector<double> times) {
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  return times[kRounds / 2];
}

// Median over rounds, µs a decision of the rule.
double measure(const Dispatch& rule, const std::vector<EngineView>& engines) {
  DispatchDecision decision;
  DispatchView view{.request = {.prompt_tokens = 900, .prompt_pages = 57, .mean_return_ms = 4000},
                    .engines = engines};
  const auto calls = static_cast<int>(std::max<std::size_t>(20, 20'000 / engines.size()));
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) {
      ++view.turn;
      rule.choose(view, decision);
    }
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count() / calls);
  }
  return median(std::move(times));
}

cluster::EngineSnapshot random_snapshot(Rng& rng, std::uint64_t sequence) {
  cluster::EngineSnapshot made{.sequence = sequence, .pages_total = 4096};
  made.pages_referenced = static_cast<std::int64_t>(rng.below(3000));
  made.running_requests = 1 + static_cast<std::int64_t>(rng.below(50));
  made.running_prefill_tokens = static_cast<std::int64_t>(rng.below(5000));
  made.waiting_prefill_tokens = static_cast<std::int64_t>(rng.below(50'000));
  made.decodes = static_cast<std::int64_t>(rng.below(50));
  made.decode_context_tokens = 700 * made.decodes;
  made.step_times.emplace() = {.attention = {1, 0.1, 0.1, 1e-5, 1e-7}, .service = {1, 0.01, 0.001}};
  made.experts = {.experts = 6144, .choices_per_row = 384};
  made.prefill_cost = {.ms_per_token = 0.1};
  made.budget = {.drain_steps = 1, .floor = 0, .ceiling = 2048};
  return made;
}

// Median over rounds, µs a request from its arrival to its engine: prefix hits, views, the rule,
// the ledger, and the record of the decision. One engine's snapshot comes with every request.
double measure_whole(std::string_view rule, int engines, int ranks, std::size_t records) {
  cluster::DispatcherOptions options{.engines = engines, .rule = std::string(rule)};
  options.log_records = records;
  options.engines_alike = true;
  for (int i = 0; ranks > 1 && i < engines; ++i)
    options.groups.push_back(i / ranks);
  auto dispatcher = cluster::Dispatcher::make(options).value();
  Rng rng(1);
  TimePoint now{};
  std::uint64_t sequence = 1;
  for (int i = 0; i < engines; ++i)
    dispatcher->note_snapshot(EngineId{i}, random_snapshot(rng, sequence));
  std::uint64_t id = 0;
  const int calls = std::max(20, 5'000 / engines);
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::vector<sched::Request>> groups(static_cast<std::size_t>(calls));
    for (auto& group : groups) {
      sched::Request& request = group.emplace_back(sched::Request{.id = RequestId{++id}});
      for (int i = 0; i < 900; ++i)
        request.prompt.push_back(static_cast<TokenId>(rng.below(30'000)));
      request.user_key = 1 + rng.below(1000);
    }
    const auto start = std::chrono::steady_clock::now();
    for (auto& group : groups) {
      now += std::chrono::milliseconds(1);
      const EngineId told{static_cast<int>(rng.below(static_cast<std::uint64_t>(engines)))};
      dispatcher->note_snapshot(told, random_snapshot(rng, ++sequence));
      const RequestId request = group.front().id;
      if (!dispatcher->submit(std::move(group), now).ok() || !dispatcher->next(now)) return -1;
      dispatcher->note_end(request);
    }
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count() / calls);
  }
  return median(std::move(times));
}

void run() {
  std::printf("%-16s", "us a decision");
  constexpr int kCounts[] = {2, 16, 128, 1024};
  for (const int count : kCounts)
    std::printf("%10d", count);
  for (const int ranks : {1, 8}) {
    std::printf("\ngroups of %d\n", ranks);
    for (const std::string_view name : policy::dispatch_names()) {
      const auto rule = policy::make_dispatch(name, {});
      std::printf("%-16.*s", static_cast<int>(name.size()), name.data());
      for (const int count : kCounts) {
        Rng rng(1);
        std::vector<EngineView> engines;
        for (int i = 0; i < count; ++i)
          engines.push_back(random_engine(rng, ranks > 1 ? i / ranks : -1));
        std::printf("%10.2f", measure(**rule, engines));
      }
      std::printf("\n");
    }
    for (const std::size_t records : {std::size_t{0}, std::size_t{1024}}) {
      std::printf("%-16s", records == 0 ? "whole, no log" : "whole");
      for (const int count : kCounts)
        std::printf("%10.2f", measure_whole("gimbal", count, ranks, records));
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace gimbal

int main() {
  gimbal::run();
  return 0;
}
