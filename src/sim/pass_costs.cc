#include "sim/pass_costs.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace gimbal::sim {
PassCosts::PassCosts(const cost::CostModel& model, const cost::ExpertLoadTable& loads,
                     cost::Tier tier)
    : model_(model),
      loads_(&loads),
      tier_(loads.ranks() > 1 ? tier : cost::Tier::kOwnRank),
      factors_(static_cast<std::size_t>(loads.ranks() / model.attention_tp()), 1.0),
      moe_before_(1, 0) {
  GIMBAL_CHECK(loads.ranks() % model.attention_tp() == 0);
  for (int layer = 0; layer < model.layers(); ++layer)
    moe_before_.push_back(moe_before_.back() + (model.model().is_moe(layer) ? 1 : 0));
}

double PassCosts::attention_ms(Rank rank, const cost::RankWork& work) const {
  return factor(rank) * model_.attention_ms(work);
}

double PassCosts::dense_ms(Rank rank, const cost::RankWork& work) const {
  return moe_layers() == layers() ? 0 : factor(rank) * model_.dense_layer_ms(work);
}

double PassCosts::step_ms(Rank rank, const cost::RankWork& work) const {
  return factor(rank) * model_.step_ms(work);
}

ExpertTimes PassCosts::experts(std::span<const double> tokens, double most,
                               std::vector<cost::ExpertLoad>& loads) const {
  ExpertTimes times;
  loads.assign(static_cast<std::size_t>(devices()), {});
  const double all = std::accumulate(tokens.begin(), tokens.end(), 0.0);
  if (moe_layers() == 0 || !(all > 0)) return times;
  const cost::ExpertLoad slowest = loads_->mean_slowest(tokens);
  times.service = model_.service_ms(slowest.rows, slowest.distinct);
  for (std::size_t device = 0; device < loads.size(); ++device) {
    cost::ExpertLoad& load = loads[device];
    load = loads_->mean(tokens, Rank{static_cast<std::int32_t>(device)});
    times.rows += load.rows;
    times.distinct += load.distinct;
    if (!equal_) times.service = std::max(times.service, service_ms(device, load));
  }
  if (devices() > 1) {
    // Of a device's rows its own experts take a share that does not leave it. Ranks that share the
    // attention of a source each send a part of its rows.
    const double away = 1.0 - 1.0 / devices();
    const double row_bytes = model_.model().row_bytes();
    const double out =
        most / model_.attention_tp() * model_.model().experts_per_token * away * row_bytes;
    const double in = slowest.rows * away * row_bytes;
    times.exchange = model_.exchange_ms(out, in, tier_) + model_.exchange_ms(in, out, tier_);
  }
  return times;
}

void PassCosts::set_factor(Rank rank, double factor) {
  GIMBAL_CHECK(factor > 0);
  factors_[static_cast<std::size_t>(rank.value())] = factor;
  equal_ = std::all_of(factors_.begin(), factors_.end(), [](double each) { return each == 1.0; });
}

double PassShape::begin_of(int stage) const {
  const int layer = stage / kStagesPerLayer;
  const int within = stage % kStagesPerLayer;
  const int moe = costs_->moe_before(layer);
  double ms = moe * (attention_ + experts_) + (layer - moe) * dense_;
  if (within == 0) return ms;
  if (!costs_->is_moe(layer)) return ms + dense_ * (1 - kDensePart);
  ms += attention_;
  return within == static_cast<int>(Stage::kRouter) ? ms - kRouterPart * attention_ : ms;
}

int PassShape::stage_at(double ms) const {
  int low = 0;
  int high = costs_->layers() * kStagesPerLayer;  // the last stage that has begun is in [low, high]
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (begin_of(middle) <= ms) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

double PassShape::moved_to(const PassShape& other, double ms) const {
  const int stage = stage_at(ms);
  const double begin = begin_of(stage);
  if (stage == costs_->layers() * kStagesPerLayer) return other.begin_of(stage);
  const double length = begin_of(stage + 1) - begin;
  const double part = length > 0 ? std::min(1.0, (ms - begin) / length) : 0;
  const double there = other.begin_of(stage);
  return there + part * (other.begin_of(stage + 1) - there);
}

double PassShape::moe_layers_at(double ms) const {
  const double layer_ms = attention_ + experts_;
  if (costs_->moe_layers() == costs_->layers()) {
    return layer_ms > 0 ? std::min<double>(ms / layer_ms, costs_->layers()) : 0;
  }
  const int layer = stage_at(ms) / kStagesPerLayer;
  const int moe = costs_->moe_before(layer);
  if (layer == costs_->layers() || costs_->moe_before(layer + 1) == moe) return moe;
  const double into = ms - begin_of(layer * kStagesPerLayer);
  return moe + (layer_ms > 0 ? std::min(1.0, into / layer_ms) : 0);
}

double PassShape::dense_layers_at(double ms) const {
  if (costs_->moe_layers() == costs_->layers()) return 0;
  const int layer = stage_at(ms) / kStagesPerLayer;
  const int moe = costs_->moe_before(layer);
  if (layer == costs_->layers() || costs_->moe_before(layer + 1) > moe) return layer - moe;
  const double into = ms - begin_of(layer * kStagesPerLayer);
  return layer - moe + (dense_ > 0 ? std::min(1.0, into / dense_) : 0);
}

}  // namespace gimbal::sim
