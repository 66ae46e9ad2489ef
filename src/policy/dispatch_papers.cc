// The engine-level rules of the two Gimbal papers.
#include <algorithm>

#include "policy/dispatch_candidates.h"
#include "policy/dispatch_rules.h"

namespace gimbal::policy {
namespace {

constexpr double kFullSlope = 10;  // of φ above the limit

// P = w_R·R/B + w_W·W/B + w_K·φ(K) + w_M·max(0, rho − 1).
class GimbalV2 final : public Dispatch {
 public:
  explicit GimbalV2(const DispatchOptions& options) : options_(options) {}

  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision, options_.kv_limit)) return;
    const auto usage = [](const EngineView& engine) { return engine.kv_usage(); };
    const auto pressure = [](const EngineView& engine) { return engine.expert_pressure; };
    const auto mean = [&](auto value, double none) {
      return mean_known(view, decision.candidates, value).value_or(none);
    };
    const double mean_running = mean(running_tokens, 0);
    const double mean_waiting = mean(waiting_tokens, 0);
    const double mean_usage = mean(usage, 0);
    const double mean_pressure = mean(pressure, 1);
    for (const int i : decision.candidates) {
      const EngineView& engine = engine_at(view, i);
      const double running = running_tokens(engine).value_or(mean_running);
      const double waiting = waiting_tokens(engine).value_or(mean_waiting);
      const double over = engine.expert_pressure.value_or(mean_pressure) - 1;
      score_at(decision, i).score = options_.weight_running * running / options_.batch_tokens +
                                    options_.weight_waiting * waiting / options_.batch_tokens +
                                    options_.weight_kv * phi(usage(engine).value_or(mean_usage)) +
                                    options_.weight_experts * std::max(0.0, over);
    }
    take_lowest(view, decision);
  }

 private:
  [[nodiscard]] double phi(double usage) const {
    const double limit = options_.kv_limit;
    return usage <= limit ? usage : limit + kFullSlope * (usage - limit);
  }

  DispatchOptions options_;
};

class GimbalV1 final : public Dispatch {
 public:
  explicit GimbalV1(const DispatchOptions& options) : options_(options) {}

  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision, options_.kv_limit)) return;
    const auto usage = [](const EngineView& engine) { return engine.kv_usage(); };
    score_by(view, decision, usage);
    const auto [least_usage, most_usage] = score_range(decision);
    const bool full = least_usage > options_.kv_limit;
    if (full || most_usage - least_usage > options_.kv_spread) {
      take_lowest(view, decision);
      decision.reason = full ? DispatchReason::kAllFull : DispatchReason::kKvSpread;
      return;
    }
    score_by(view, decision, [this](const EngineView& engine) { return running_load(engine); });
    const auto [least_load, most_load] = score_range(decision);
    if (most_load - least_load > options_.load_spread) {
      take_lowest(view, decision);
      decision.reason = DispatchReason::kLoadSpread;
      return;
    }
    const auto& candidates = decision.candidates;
    if (view.request.last_engine &&
        std::binary_search(candidates.begin(), candidates.end(), *view.request.last_engine)) {
      take(decision, *view.request.last_engine, DispatchReason::kUser);
      return;
    }
    take_lowest(view, decision);
    decision.reason = DispatchReason::kLeastLoad;
  }

 private:
  [[nodiscard]] std::optional<double> running_load(const EngineView& engine) const {
    if (options_.running_load == RunningLoad::kContext) {
      const std::optional<double> usage = engine.kv_usage();
      if (!usage) return std::nullopt;
      return *usage * *engine.pages_total * engine.page_tokens;
    }
    return prefill_tokens(engine);
  }

  DispatchOptions options_;
};

}  // namespace

std::unique_ptr<Dispatch> make_gimbal_v2_dispatch(const DispatchOptions& options) {
  return std::make_unique<GimbalV2>(options);
}
std::unique_ptr<Dispatch> make_gimbal_v1_dispatch(const DispatchOptions& options) {
  return std::make_unique<GimbalV1>(options);
}

}  // namespace gimbal::policy
