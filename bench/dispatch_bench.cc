// How long one dispatch decision takes, by rule and number of engines: `dispatch_bench`.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "base/random.h"
#include "policy/dispatch.h"

namespace gimbal::policy {
namespace {

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
  view.costs =
      StepCosts{.fitted = {.attention = {1, 0.1, 0.1, 1e-5, 1e-7}, .service = {1, 0.01, 0.001}},
                .experts = {.experts = 6144, .choices_per_row = 384},
                .expert_ratio = 0.8};
  view.budget = {.drain_steps = 8, .floor = 0, .ceiling = 2048};
  return view;
}

// Median over rounds, µs a decision.
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
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  return times[kRounds / 2];
}

void run() {
  std::printf("%-16s", "us a decision");
  constexpr int kCounts[] = {2, 16, 128, 1024};
  for (const int count : kCounts)
    std::printf("%10d", count);
  for (const int ranks : {1, 8}) {
    std::printf("\ngroups of %d\n", ranks);
    for (const std::string_view name : dispatch_names()) {
      const auto rule = make_dispatch(name, {});
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
  }
}

}  // namespace
}  // namespace gimbal::policy

int main() {
  gimbal::policy::run();
  return 0;
}
