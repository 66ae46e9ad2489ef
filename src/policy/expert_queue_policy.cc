#include "policy/expert_queue_policy.h"

#include <fmt/format.h>

namespace gimbal::policy {
namespace {

class RunAll final : public ExpertQueuePolicy {
 public:
  void choose(const ExpertQueueView& view, ExpertQueueDecision& decision) const override {
    decision.run.clear();
    decision.wait_until.reset();
    const int count = static_cast<int>(view.queues.size());
    for (const bool best_effort : {false, true}) {
      for (int i = 0; i < count; ++i) {
        if (view.queues[static_cast<std::size_t>(i)].best_effort_only() == best_effort) {
          decision.run.push_back(i);
        }
      }
      if (static_cast<int>(decision.run.size()) == count) return;
    }
  }
};

class LatencySensitiveFirst final : public ExpertQueuePolicy {
 public:
  explicit LatencySensitiveFirst(const ExpertQueuePolicyOptions& options) : options_(options) {}

  void choose(const ExpertQueueView& view, ExpertQueueDecision& decision) const override {
    decision.run.clear();
    decision.wait_until.reset();
    double spent_ms = 0;
    const auto take = [&](int index, const WaitingExpertQueue& queue) {
      decision.run.push_back(index);
      spent_ms += cost_ms(view.cost, queue);
    };
    const int count = static_cast<int>(view.queues.size());
    const auto take_all = [&](const auto& wanted) {
      for (int i = 0; i < count; ++i) {
        const WaitingExpertQueue& queue = view.queues[static_cast<std::size_t>(i)];
        if (wanted(queue)) take(i, queue);
      }
    };
    take_all([](const WaitingExpertQueue& queue) { return !queue.best_effort_only(); });
    if (static_cast<int>(decision.run.size()) == count) return;
    take_all([&](const WaitingExpertQueue& queue) {
      return queue.best_effort_only() && !left_for_later(view, queue);
    });
    for (int i = 0; i < count; ++i) {
      const WaitingExpertQueue& queue = view.queues[static_cast<std::size_t>(i)];
      if (!queue.best_effort_only() || !left_for_later(view, queue)) continue;
      const bool fits = spent_ms + cost_ms(view.cost, queue) <= to_ms(options_.quantum);
      if (!fits && !decision.run.empty()) return;
      take(i, queue);
    }
  }

 private:
  static double cost_ms(const ExpertRunCost& cost, const WaitingExpertQueue& queue) {
    return cost.ms_per_expert + cost.ms_per_row * queue.rows();
  }
  [[nodiscard]] bool left_for_later(const ExpertQueueView& view,
                                    const WaitingExpertQueue& queue) const {
    return queue.may_wait() && queue.deferred_runs < options_.max_defer &&
           view.now - queue.oldest < options_.max_wait;
  }

  ExpertQueuePolicyOptions options_;
};

}  // namespace

Result<std::unique_ptr<ExpertQueuePolicy>> make_expert_queue_policy(
    std::string_view name, const ExpertQueuePolicyOptions& options) {
  if (options.quantum < Duration::zero()) {
    return invalid_argument(
        fmt::format("quantum must not be negative: {} ms", to_ms(options.quantum)), "quantum");
  }
  if (options.max_defer < 0) {
    return invalid_argument(fmt::format("max_defer must not be negative: {}", options.max_defer),
                            "max_defer");
  }
  if (options.max_wait < Duration::zero()) {
    return invalid_argument(
        fmt::format("max_wait must not be negative: {} ms", to_ms(options.max_wait)), "max_wait");
  }
  using Made = std::unique_ptr<ExpertQueuePolicy>;
  if (name == "run-all") return Made(std::make_unique<RunAll>());
  if (name == "ls-first") return Made(std::make_unique<LatencySensitiveFirst>(options));
  return invalid_argument(fmt::format("expert queue policy must be run-all or ls-first: {}", name),
                          "name");
}

std::vector<std::string_view> expert_queue_policy_names() {
  return {"run-all", "ls-first"};
}

}  // namespace gimbal::policy
