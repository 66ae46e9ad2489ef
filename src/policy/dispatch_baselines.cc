// The rules that others use, and simple ones.
#include <algorithm>

#include "policy/dispatch_candidates.h"
#include "policy/dispatch_rules.h"

namespace gimbal::policy {
namespace {

constexpr double kVllmWaitingWeight = 4;

// The candidate whose index is the first at or after the turn's.
int next_in_turn(const DispatchView& view, const std::vector<int>& candidates) {
  const auto first = static_cast<int>(view.turn % view.engines.size());
  const auto found = std::lower_bound(candidates.begin(), candidates.end(), first);
  return found == candidates.end() ? candidates.front() : *found;
}

// Takes the lowest score; equal ones in turn.
void take_lowest_in_turn(const DispatchView& view, DispatchDecision& decision) {
  collect_lowest(decision);
  take(decision, next_in_turn(view, decision.members),
       decision.members.size() > 1 ? DispatchReason::kTie : DispatchReason::kBest);
}

class Vllm final : public Dispatch {
 public:
  explicit Vllm(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    score_by(view, decision, [](const EngineView& engine) -> std::optional<double> {
      return kVllmWaitingWeight * engine.counted_waiting + engine.counted_running;
    });
    take_lowest_in_turn(view, decision);
  }
};

class RoundRobin final : public Dispatch {
 public:
  explicit RoundRobin(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    take(decision, next_in_turn(view, decision.candidates), DispatchReason::kTurn);
  }
};

class LeastRequests final : public Dispatch {
 public:
  explicit LeastRequests(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    score_by(view, decision, requests_of);
    take_lowest(view, decision);
  }
};

class LeastPrefill final : public Dispatch {
 public:
  explicit LeastPrefill(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    score_by(view, decision, prefill_tokens);
    take_lowest(view, decision);
  }
};

class Lmetric final : public Dispatch {
 public:
  explicit Lmetric(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    score_by(view, decision, requests_of);
    for (const int i : decision.candidates) {
      score_at(decision, i).score *=
          std::max(1.0, view.request.prompt_tokens - engine_at(view, i).hit_tokens);
    }
    take_lowest(view, decision);
  }
};

class CacheAware final : public Dispatch {
 public:
  explicit CacheAware(const DispatchOptions& options) : options_(options) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    score_by(view, decision, requests_of);
    const auto [least, most] = score_range(decision);
    double longest = 0;
    for (const int i : decision.candidates)
      longest = std::max(longest, engine_at(view, i).hit_tokens);
    if (most - least > options_.balance_absolute && most > options_.balance_relative * least) {
      take_lowest(view, decision);
      decision.reason = DispatchReason::kImbalance;
      return;
    }
    const bool hits =
        longest > options_.cache_threshold * std::max(1.0, view.request.prompt_tokens);
    for (const int i : decision.candidates) {
      const EngineView& engine = engine_at(view, i);
      score_at(decision, i).score = hits ? -engine.hit_tokens : engine.cached_pages;
    }
    take_lowest(view, decision);
    decision.reason = hits ? DispatchReason::kPrefix : DispatchReason::kMostRoom;
  }

 private:
  DispatchOptions options_;
};

class Random final : public Dispatch {
 public:
  explicit Random(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    take(decision, decision.candidates[view.random % decision.candidates.size()],
         DispatchReason::kRandom);
  }
};

class PowerOfTwo final : public Dispatch {
 public:
  explicit PowerOfTwo(const DispatchOptions& /*options*/) {}
  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision)) return;
    score_by(view, decision, requests_of);
    const std::uint64_t count = decision.candidates.size();
    const std::uint64_t first = view.random % count;
    const std::uint64_t second = (first + 1 + (view.random / count) % (count - 1)) % count;
    const int one = decision.candidates[first];
    const int other = decision.candidates[second];
    const double a = score_at(decision, one).score;
    const double b = score_at(decision, other).score;
    take(decision, b < a ? other : one, a == b ? DispatchReason::kRandom : DispatchReason::kBest);
  }
};

}  // namespace

std::unique_ptr<Dispatch> make_vllm_dispatch(const DispatchOptions& options) {
  return std::make_unique<Vllm>(options);
}
std::unique_ptr<Dispatch> make_round_robin_dispatch(const DispatchOptions& options) {
  return std::make_unique<RoundRobin>(options);
}
std::unique_ptr<Dispatch> make_least_requests_dispatch(const DispatchOptions& options) {
  return std::make_unique<LeastRequests>(options);
}
std::unique_ptr<Dispatch> make_least_prefill_dispatch(const DispatchOptions& options) {
  return std::make_unique<LeastPrefill>(options);
}
std::unique_ptr<Dispatch> make_lmetric_dispatch(const DispatchOptions& options) {
  return std::make_unique<Lmetric>(options);
}
std::unique_ptr<Dispatch> make_cache_aware_dispatch(const DispatchOptions& options) {
  return std::make_unique<CacheAware>(options);
}
std::unique_ptr<Dispatch> make_random_dispatch(const DispatchOptions& options) {
  return std::make_unique<Random>(options);
}
std::unique_ptr<Dispatch> make_power_of_two_dispatch(const DispatchOptions& options) {
  return std::make_unique<PowerOfTwo>(options);
}

}  // namespace gimbal::policy
