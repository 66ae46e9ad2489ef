#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/ids.h"
#include "cost/cost_model.h"
#include "cost/expert_load_table.h"
#include "cost/tier.h"

namespace gimbal::sim {

// Where inside a layer its stages begin is an assumption: the router is a tenth of what comes
// before the experts, and half of a layer without experts is its feed-forward network.
inline constexpr double kRouterPart = 0.1;
inline constexpr double kDensePart = 0.5;

// What the routed experts of one MoE layer take, all rows of a pass together, ms.
struct ExpertTimes {
  double service = 0;   // at the slowest rank
  double exchange = 0;  // there and back
  double rows = 0;      // (token, expert) pairs at all ranks
  double distinct = 0;  // experts with rows, at all ranks

  [[nodiscard]] double ms() const { return service + exchange; }
};

// What the parts of a forward pass take on the ranks of one group that shares experts: the cost
// model with the group's expert map, its distance and the speeds of its devices. Step-level: a
// layer's slowest rank is an expectation (cost::ExpertLoadTable), the same for all MoE layers.
// One thread; costs and loads must outlive it.
class PassCosts {
 public:
  // `loads`: of the group's devices, attention_tp for each rank, side by side. `tier`: between any
  // two of them.
  PassCosts(const cost::CostModel& model, const cost::ExpertLoadTable& loads, cost::Tier tier);

  [[nodiscard]] int ranks() const { return devices() / model_.attention_tp(); }
  [[nodiscard]] int devices() const { return loads_->ranks(); }
  [[nodiscard]] int topics() const { return loads_->topics(); }
  [[nodiscard]] int layers() const { return static_cast<int>(moe_before_.size()) - 1; }
  [[nodiscard]] int moe_layers() const { return moe_before_.back(); }
  // MoE layers among the first `layers`.
  [[nodiscard]] int moe_before(int layers) const {
    return moe_before_[static_cast<std::size_t>(layers)];
  }

  // A layer of the rank's own: with experts (up to them), without experts (whole); and once a step.
  [[nodiscard]] double attention_ms(Rank rank, const cost::RankWork& work) const;
  [[nodiscard]] double dense_ms(Rank rank, const cost::RankWork& work) const;
  [[nodiscard]] double step_ms(Rank rank, const cost::RankWork& work) const;

  // tokens[t]: of topic t, from all ranks together; `most`: tokens of the rank with the most.
  // Overwrites `loads`: what each device's service does of a MoE layer.
  [[nodiscard]] ExpertTimes experts(std::span<const double> tokens, double most,
                                    std::vector<cost::ExpertLoad>& loads) const;
  // What such a load takes at the device.
  [[nodiscard]] double service_ms(std::size_t device, const cost::ExpertLoad& load) const {
    return factors_[device / static_cast<std::size_t>(model_.attention_tp())] *
           model_.service_ms(load.rows, load.distinct);
  }

  // The rank takes `factor` times as long for everything, from now on. Requires: > 0.
  void set_factor(Rank rank, double factor);
  // Another map from now on; of the same shape.
  void set_loads(const cost::ExpertLoadTable& loads) { loads_ = &loads; }
  [[nodiscard]] bool is_moe(int layer) const { return moe_before(layer + 1) > moe_before(layer); }
  [[nodiscard]] const cost::CostModel& model() const { return model_; }
  [[nodiscard]] cost::Tier tier() const { return tier_; }

 private:
  [[nodiscard]] double factor(Rank rank) const {
    return factors_[static_cast<std::size_t>(rank.value())];
  }

  const cost::CostModel& model_;
  const cost::ExpertLoadTable* loads_;
  cost::Tier tier_;
  std::vector<double> factors_;  // by rank
  bool equal_ = true;            // all factors are 1
  std::vector<int> moe_before_;  // [layers + 1]
};

// The stages of a pass in nominal time, ms from its start: every MoE layer takes attention +
// experts, every other one dense. Value type.
class PassShape {
 public:
  PassShape() = default;
  PassShape(const PassCosts& costs, double attention, double dense, const ExpertTimes& experts)
      : costs_(&costs), attention_(attention), dense_(dense), experts_(experts.ms()) {}

  // When the stage begins.
  [[nodiscard]] double begin_of(int stage) const;
  // The stage that runs at `ms`: the last that has begun. Requires: 0 <= ms.
  [[nodiscard]] int stage_at(double ms) const;
  // `ms` of this pass as the same place in another one.
  [[nodiscard]] double moved_to(const PassShape& other, double ms) const;
  [[nodiscard]] double total() const { return begin_of(costs_->layers() * kStagesPerLayer); }
  // Of its MoE layers and its dense ones, how many have passed at `ms`, with fractions.
  [[nodiscard]] double moe_layers_at(double ms) const;
  [[nodiscard]] double dense_layers_at(double ms) const;

 private:
  const PassCosts* costs_ = nullptr;
  double attention_ = 0;  // of a MoE layer
  double dense_ = 0;      // a layer without experts
  double experts_ = 0;    // of a MoE layer
};

}  // namespace gimbal::sim
