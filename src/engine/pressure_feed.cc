#include "engine/pressure_feed.h"

namespace gimbal::engine {
namespace {

// Steps of a group between two looks at its counters: a fraction of a window.
constexpr std::uint64_t kStepsBetween = 16;

}  // namespace

PressureFeed::PressureFeed(const EngineFleet& fleet, int layers)
    : fleet_(fleet), layers_(layers), told_(static_cast<std::size_t>(fleet.size())) {
  for (const EngineFleet::Group& group : fleet.groups()) {
    groups_.push_back({.pressure = cluster::ExpertPressure(layers, group.experts->ranks()),
                       .map_version = group.experts->map_version()});
    note(groups_.size() - 1, groups_.back());
  }
}

void PressureFeed::fetch(cluster::Dispatcher& dispatcher) {
  if (groups_.empty()) {  // every engine runs its own experts
    for (int engine = 0; engine < fleet_.size(); ++engine)
      tell(dispatcher, EngineId{engine}, 1.0);
    return;
  }
  for (std::size_t index = 0; index < groups_.size(); ++index) {
    Group& group = groups_[index];
    note(index, group);
    tell_map(dispatcher, index, group);
    const int ranks = fleet_.groups()[index].experts->ranks();
    for (int rank = 0; rank < ranks; ++rank) {
      const Rank own[] = {Rank{rank}};
      tell(dispatcher, EngineId{static_cast<int>(index) * ranks + rank},
           group.pressure.pressure(own));
    }
  }
}

void PressureFeed::tell_map(cluster::Dispatcher& dispatcher, std::size_t index, Group& group) {
  const ExpertGroup& experts = *fleet_.groups()[index].experts;
  if (group.told_version == experts.map_version()) return;
  const auto map = experts.map();
  group.told_version = map->version();
  const std::uint64_t fingerprint = map->fingerprint();
  for (int rank = 0; rank < experts.ranks(); ++rank) {
    dispatcher.note_expert_map(EngineId{static_cast<int>(index) * experts.ranks() + rank},
                               fingerprint);
  }
}

void PressureFeed::tell(cluster::Dispatcher& dispatcher, EngineId engine,
                        std::optional<double> pressure) {
  std::optional<double>& told = told_[static_cast<std::size_t>(engine.value())];
  if (told == pressure) return;
  told = pressure;
  dispatcher.note_expert_pressure(engine, pressure);
}

void PressureFeed::note(std::size_t index, Group& group) {
  const ExpertGroup& experts = *fleet_.groups()[index].experts;
  const int ranks = experts.ranks();
  if (const std::uint32_t version = experts.map_version(); version != group.map_version) {
    group.map_version = version;
    group.pressure.map_changed();
  }
  cluster::ExpertLoad load;
  snapshots_.clear();
  for (int rank = 0; rank < ranks; ++rank) {
    const cluster::EngineSnapshot& snapshot =
        snapshots_.emplace_back(fleet_.engine(static_cast<int>(index) * ranks + rank).snapshot());
    load.steps += snapshot.steps;
    load.prefill_rows += snapshot.prefill_rows;
  }
  load.steps /= static_cast<std::uint64_t>(ranks);
  if (group.noted && load.steps < group.noted_steps + kStepsBetween) return;
  group.noted = true;
  group.noted_steps = load.steps;
  rows_.clear();
  distinct_.clear();
  for (int layer = 0; layer < layers_; ++layer) {
    for (int rank = 0; rank < ranks; ++rank) {
      const ExpertService& service = experts.station(Rank{rank}).service();
      rows_.push_back(service.layer_rows(LayerIndex{layer}));
      distinct_.push_back(service.layer_distinct(LayerIndex{layer}));
    }
  }
  load.rows = rows_;
  load.distinct_experts = distinct_;
  load.cost = cluster::expert_cost(snapshots_);
  group.pressure.note(load);
}

}  // namespace gimbal::engine
