#include "cluster/expert_pressure.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::cluster {
namespace {

constexpr std::uint64_t kWindowSteps = 64;
constexpr double kWeight = 0.5;  // of the newest window

}  // namespace

ExpertPressure::ExpertPressure(int layers, int ranks)
    : layers_(layers), ranks_(ranks), pressure_(static_cast<std::size_t>(ranks), 1.0) {
  GIMBAL_CHECK(layers >= 0 && ranks >= 1);
}

void ExpertPressure::note(const ExpertLoad& load) {
  const std::size_t size = static_cast<std::size_t>(layers_) * static_cast<std::size_t>(ranks_);
  GIMBAL_CHECK(load.rows.size() == size && load.distinct_experts.size() == size);
  if (started_ && load.steps < first_step_ + kWindowSteps) return;
  if (started_ && !muted_) close_window(load);
  if (started_) muted_ = false;
  started_ = true;
  first_step_ = load.steps;
  first_prefill_ = load.prefill_rows;
  first_rows_.assign(load.rows.begin(), load.rows.end());
  first_distinct_.assign(load.distinct_experts.begin(), load.distinct_experts.end());
}

void ExpertPressure::close_window(const ExpertLoad& load) {
  const bool decodes_only = load.prefill_rows == first_prefill_;
  const auto& first = decodes_only ? first_distinct_ : first_rows_;
  const auto& last = decodes_only ? load.distinct_experts : load.rows;
  std::vector<double> window(pressure_.size(), 0.0);
  int layers = 0;
  for (int layer = 0; layer < layers_; ++layer) {
    const std::size_t at = static_cast<std::size_t>(layer) * window.size();
    double sum = 0;
    for (std::size_t rank = 0; rank < window.size(); ++rank)
      sum += static_cast<double>(last[at + rank] - first[at + rank]);
    if (sum <= 0) continue;
    ++layers;
    for (std::size_t rank = 0; rank < window.size(); ++rank)
      window[rank] += static_cast<double>(last[at + rank] - first[at + rank]) * ranks_ / sum;
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
  muted_ = true;
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
