#include "engine/expert_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace gimbal::engine {
namespace {

Result<void> check_ranks(const model::Model& model, int ranks) {
  const int most = std::min(sched::kMostGangRanks, model.config().experts);
  if (ranks >= 2 && ranks <= most) return {};
  return invalid_argument(
      fmt::format("expert_parallel_size must be from 1 to {} for a model with {} experts, is {}",
                  std::max(1, most), model.config().experts, ranks),
      "expert_parallel_size");
}

}  // namespace

policy::ExpertMapShape ExpertGroup::map_shape(const model_config::ModelConfig& config, int ranks) {
  policy::ExpertMapShape shape{.experts_of_layer = {}, .ranks = ranks};
  for (int layer = 0; layer < config.num_layers(); ++layer)
    shape.experts_of_layer.push_back(config.is_moe(LayerIndex{layer}) ? config.experts : 0);
  return shape;
}

Result<std::unique_ptr<ExpertGroup>> ExpertGroup::make(const model::Model& model,
                                                       ExpertGroupOptions options,
                                                       const Clock& clock) {
  GIMBAL_RETURN_IF_ERROR(check_ranks(model, options.ranks));
  const policy::ExpertMapShape shape = map_shape(model.config(), options.ranks);
  policy::ExpertMap map = policy::ExpertMap::linear(shape, 1);
  if (options.map) {
    GIMBAL_RETURN_IF_ERROR(policy::check_shape(*options.map, shape));
    map = *options.map;
  }
  std::vector<std::unique_ptr<policy::ExpertQueuePolicy>> policies;
  for (int rank = 0; rank < options.ranks; ++rank) {
    GIMBAL_ASSIGN_OR_RETURN(policies.emplace_back(),
                            policy::make_expert_queue_policy(options.expert_queues));
  }
  std::unique_ptr<ExpertGroup> group(
      new ExpertGroup(model, std::move(options), clock, std::move(map)));
  for (int rank = 0; rank < group->ranks(); ++rank) {
    group->station(Rank{rank}).set_policy(std::move(policies[static_cast<std::size_t>(rank)]));
  }
  return group;
}

ExpertGroup::ExpertGroup(const model::Model& model, ExpertGroupOptions options, const Clock& clock,
                         policy::ExpertMap map)
    : options_(std::move(options)),
      clock_(clock),
      rows_(model.config(), model.dtype(), options_.ranks * options_.executor.max_batches,
            options_.executor.max_batch_rows),
      life_(options_.ranks),
      map_(std::make_shared<const policy::ExpertMap>(std::move(map))),
      map_version_(map_->version()) {
  std::vector<comm::Doorbell*> bells;
  for (int rank = 0; rank < options_.ranks; ++rank)
    bells.push_back(&life_.bell(rank));
  const std::int64_t rows = options_.executor.max_batches * options_.executor.max_batch_rows;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    stations_.push_back(std::make_unique<ExpertStation>(
        model, rows_, clock, bells,
        ExpertStationOptions{.rank = Rank{rank},
                             .ranks = options_.ranks,
                             .max_entries = rows * std::max<std::int64_t>(1, rows_.choices()),
                             .profile = options_.profile ? &*options_.profile : nullptr}));
  }
}

std::shared_ptr<const policy::ExpertMap> ExpertGroup::map() const {
  const std::lock_guard lock(map_mutex_);
  return map_;
}

Result<std::uint32_t> ExpertGroup::set_map(policy::ExpertMap map) {
  const std::lock_guard lock(map_mutex_);
  GIMBAL_ASSIGN_OR_RETURN(map, policy::next_expert_map(*map_, std::move(map),
                                                       [this](Rank rank) { return !alive(rank); }));
  map_ = std::make_shared<const policy::ExpertMap>(std::move(map));
  map_version_.store(map_->version());
  return map_->version();
}

bool ExpertGroup::retire(Rank rank) {
  // Also of one that was declared dead before, and served yet.
  for (const auto& station : stations_) {
    if (station->server() == rank) broken_.store(true);
  }
  {
    const std::lock_guard lock(map_mutex_);
    if (!life_.retire(rank.value())) return false;
    if (life_.anybody_left()) {
      map_ = std::make_shared<const policy::ExpertMap>(map_->without_rank(rank));
      map_version_.store(map_->version());
    }
  }
  for (const auto& station : stations_)
    station->forget(rank);
  ring_all();
  life_.announce(rank.value());
  return true;
}

void ExpertGroup::ring_all() {
  for (int rank = 0; rank < ranks(); ++rank)
    life_.bell(rank).ring();
}

}  // namespace gimbal::engine
