#include "cluster/expert_pressure.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::cluster {
namespace {

constexpr std::uint64_t kWindowSteps = 64;
constexpr double kWeight = 0.5;  // of the newest window

}  // namespace

policy::ExpertRunCost expert_cost(std::span<const EngineSnapshot> engines) {
  const EngineSnapshot* most = nullptr;
  for (const EngineSnapshot& engine : engines) {
    if (!engine.step_times) continue;
    if (most == nullptr || engine.prefill_rows > most->prefill_rows) most = &engine;
  }
  if (most == nullptr) return {};
  const auto& service = most->step_times->service;  // ms, a row, a distinct expert
  return {.ms_per_expert = std::max(0.0, service[2]), .ms_per_row = std::max(0.0, service[1])};
}

ExpertPressure::ExpertPressure(int layers, int ranks)
    : layers_(layers), ranks_(ranks), pressure_(static_cast<std::size_t>(ranks), 1.0) {
  GIMBAL_CHECK(layers >= 0 && ranks >= 1);
}

void ExpertPressure::note(const ExpertLoad& load) {
  const std::size_t size = static_cast<std::size_t>(layers_) * static_cast<std::size_t>(ranks_);
  GIMBAL_CHECK(load.rows.size() == size && load.distinct_experts.size() == size);
  if (started_ && load.steps < first_step_ + kWindowSteps) return;
  if (started_) close_window(load);
  started_ = true;
  first_step_ = load.steps;
  first_prefill_ = load.prefill_rows;
  first_rows_.assign(load.rows.begin(), load.rows.end());
  first_distinct_.assign(load.distinct_experts.begin(), load.distinct_experts.end());
}

void ExpertPressure::close_window(const ExpertLoad& load) {
  policy::ExpertRunCost cost = load.cost;
  if (cost.ms_per_row <= 0 && cost.ms_per_expert <= 0) {
    const bool decodes_only = load.prefill_rows == first_prefill_;
    cost = decodes_only ? policy::ExpertRunCost{.ms_per_expert = 1}
                        : policy::ExpertRunCost{.ms_per_row = 1};
  }
  const auto work = [&](std::size_t at) {
    return cost.ms_per_row * static_cast<double>(load.rows[at] - first_rows_[at]) +
           cost.ms_per_expert *
               static_cast<double>(load.distinct_experts[at] - first_distinct_[at]);
  };
  std::vector<double> window(pressure_.size(), 0.0);
  int layers = 0;
  for (int layer = 0; layer < layers_; ++layer) {
    const std::size_t at = static_cast<std::size_t>(layer) * window.size();
    double sum = 0;
    for (std::size_t rank = 0; rank < window.size(); ++rank)
      sum += work(at + rank);
    if (sum <= 0) continue;
    ++layers;
    for (std::size_t rank = 0; rank < window.size(); ++rank)
      window[rank] += work(at + rank) * ranks_ / sum;
  }
  if (layers == 0) return;
  for (std::size_t rank = 0; rank < window.size(); ++rank) {
    const double mean = window[rank] / layers;
    pressure_[rank] = known_ ? pressure_[rank] + kWeight * (mean - pressure_[rank]) : mean;
  }
  known_ = true;
}

void ExpertPressure::map_changed() {
  started_ = false;
  known_ = false;
}

std::optional<double> ExpertPressure::pressure(std::span<const Rank> own) const {
  if (ranks_ == 1) return 1;
  if (!known_ || own.empty()) return std::nullopt;
  double most = 0;
  for (const Rank rank : own)
    most = std::max(most, pressure_[static_cast<std::size_t>(rank.value())]);
  return most;
}

}  // namespace gimbal::cluster
