#include "engine/engine_fleet.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <utility>

namespace gimbal::engine {
namespace {

// How long a rank with a CPU of its own looks out for outputs before it sleeps: about what waking
// it up would take.
constexpr Duration kSpin = std::chrono::microseconds(50);

// Only the gimbal former runs what a planner grants.
std::string planner_of(const EngineFleetOptions& options) {
  if (!options.planner.empty()) return options.planner;
  const bool pairs =
      options.workers == RankWorkers::kOwn && options.engine.scheduler.former == "gimbal";
  return pairs ? "pairing" : "as-wanted";
}

// Those that this process may use.
int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

}  // namespace

Result<void> EngineFleet::check(const EngineFleetOptions& options, int experts) {
  if (options.engines < 1 || options.engines > 1024) {
    return invalid_argument(
        fmt::format("data_parallel_size must be from 1 to 1024, is {}", options.engines),
        "data_parallel_size");
  }
  const int size =
      options.expert_parallel_size == 0 ? options.engines : options.expert_parallel_size;
  if (size < 1 || options.engines % size != 0) {
    return invalid_argument(
        fmt::format("expert_parallel_size must divide data_parallel_size {}, is {}",
                    options.engines, size),
        "expert_parallel_size");
  }
  const bool asked = options.expert_parallel_size > 1;
  if (experts == 0 && asked) {
    return invalid_argument(
        fmt::format("expert_parallel_size must be 1 for a model without experts, is {}", size),
        "expert_parallel_size");
  }
  if (experts > 0 && size > std::min(experts, sched::kMostGangRanks)) {
    return invalid_argument(
        fmt::format("expert_parallel_size must be at most {} for a model with {} experts, is {}: "
                    "give one that divides data_parallel_size {}",
                    std::min(experts, sched::kMostGangRanks), experts, size, options.engines),
        "expert_parallel_size");
  }
  return {};
}

int EngineFleet::group_size(const EngineFleetOptions& options, int experts) {
  if (experts == 0) return 1;
  return options.expert_parallel_size == 0 ? options.engines : options.expert_parallel_size;
}

Result<std::unique_ptr<EngineFleet>> EngineFleet::start(
    const model::Model& model, EngineFleetOptions options, ThreadPool& shared,
    std::span<cluster::TokenSink* const> sinks) {
  GIMBAL_CHECK(sinks.size() == static_cast<std::size_t>(options.engines));
  const int experts = model.config().moe_layers() > 0 ? model.config().experts : 0;
  GIMBAL_RETURN_IF_ERROR(check(options, experts));
  options.expert_parallel_size = group_size(options, experts);
  // Before groups take memory for so many rows.
  ServingEngineOptions first = options.engine;
  first.engines = options.engines;
  GIMBAL_RETURN_IF_ERROR(complete_options(model, first));
  std::unique_ptr<EngineFleet> fleet(new EngineFleet(std::move(options)));
  GIMBAL_RETURN_IF_ERROR(fleet->make_groups(model));
  fleet->make_pools();
  if (fleet->groups_.empty() && fleet->options_.engines > 1)
    fleet->peers_ = std::make_unique<LifeSigns>(fleet->options_.engines);
  const EngineFleetOptions& all = fleet->options_;
  for (int index = 0; index < all.engines; ++index) {
    ServingEngineOptions engine = all.engine;
    engine.id = EngineId{index};
    engine.pin = all.pin && (all.engines == 1 || all.workers == RankWorkers::kOwn);
    engine.engines = all.engines;
    engine.peers = fleet->peers_.get();
    if (!engine.record_path.empty()) {
      engine.record_path += fmt::format(".engine{}", index);
    }
    ThreadPool& pool = fleet->pools_.empty() ? shared : *fleet->pools_[at(index)];
    if (all.workers == RankWorkers::kOwn && all.engines <= available_cpus()) engine.spin = kSpin;
    std::optional<GroupSeat> seat;
    if (!fleet->groups_.empty()) {
      const Group& group = fleet->groups_[at(index / all.expert_parallel_size)];
      seat.emplace(GroupSeat{*group.experts, *group.gang, Rank{index % all.expert_parallel_size}});
    }
    GIMBAL_ASSIGN_OR_RETURN(fleet->engines_.emplace_back(),
                            ServingEngine::start(model, std::move(engine), pool, *sinks[at(index)],
                                                 seat ? &*seat : nullptr));
  }
  return fleet;
}

EngineFleet::~EngineFleet() = default;

void EngineFleet::on_retired(const std::function<void()>& listener) {
  const auto tell = [listener](int /*place*/) { listener(); };
  if (peers_) peers_->on_retired(tell);
  for (const Group& group : groups_)
    group.experts->life().on_retired(tell);
}

Result<void> EngineFleet::make_groups(const model::Model& model) {
  const int size = options_.expert_parallel_size;
  if (size < 2) return {};
  for (int group = 0; group < options_.engines / size; ++group) {
    Group& made = groups_.emplace_back();
    GIMBAL_ASSIGN_OR_RETURN(
        made.experts,
        ExpertGroup::make(
            model,
            {.ranks = size,
             .executor = {.max_batch_rows = options_.engine.scheduler.max_num_batched_tokens},
             .shared_workers = options_.workers == RankWorkers::kShared,
             .profile = options_.profile,
             .map = options_.map,
             .expert_queues = options_.expert_queues},
            clock_));
    trace_stations(group, *made.experts);
    cluster::GangCoordinatorOptions coordinator{
        .pace = options_.pace, .ranks = size, .layers = model.config().num_layers()};
    coordinator.patience = options_.patience.value_or(coordinator.patience);
    coordinator.hold_steps = options_.hold_steps;
    coordinator.to_the_end = options_.workers == RankWorkers::kShared && !options_.patience;
    const std::string& record = options_.engine.record_path;
    GIMBAL_ASSIGN_OR_RETURN(
        made.gang,
        GangDriver::make(
            {.coordinator = coordinator,
             .planner = planner_of(options_),
             .planner_options = {.rejoin_steps = coordinator.patience / 2},
             .record_path = record.empty() ? record : fmt::format("{}.gang{}", record, group)},
            clock_));
  }
  return {};
}

void EngineFleet::trace_stations(int group, ExpertGroup& experts) {
  Trace* trace = options_.engine.trace;
  if (trace == nullptr) return;
  for (int rank = 0; rank < experts.ranks(); ++rank) {
    const int engine = group * experts.ranks() + rank;
    experts.station(Rank{rank})
        .set_trace(*trace,
                   trace->add_process(trace->intern(fmt::format("experts of engine {}", engine))));
  }
}

std::vector<cluster::GroupReading> EngineFleet::expert_groups() const {
  std::vector<cluster::GroupReading> readings;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const ExpertGroup& experts = *groups_[i].experts;
    cluster::GroupReading& reading = readings.emplace_back();
    reading.pace = groups_[i].gang->pace();
    reading.map_version = experts.map_version();
    reading.gang = groups_[i].gang->counters();
    for (int rank = 0; rank < experts.ranks(); ++rank) {
      const ExpertStation& station = experts.station(Rank{rank});
      const ExpertStation::Counters done = station.counters();
      reading.services.push_back({.engine = EngineId{static_cast<int>(i) * experts.ranks() + rank},
                                  .alive = experts.alive(Rank{rank}),
                                  .runs = done.runs,
                                  .rows = done.rows,
                                  .distinct_experts = done.distinct_experts,
                                  .busy = done.busy,
                                  .holds = done.holds,
                                  .held = done.held,
                                  .bytes_in = done.bytes_in,
                                  .bytes_out = done.bytes_out,
                                  .run_times = station.service().run_times(),
                                  .waits = station.service().waits(),
                                  .hold_times = station.holds()});
    }
  }
  return readings;
}

std::shared_ptr<const policy::ExpertMap> EngineFleet::expert_map(std::size_t group) const {
  return groups_[group].experts->map();
}

std::uint64_t EngineFleet::expert_traffic(std::size_t group, Rank rank, LayerIndex layer,
                                          Rank source, ExpertId expert) const {
  return groups_[group].experts->station(rank).service().traffic(layer, source, expert);
}

Result<std::uint32_t> EngineFleet::set_expert_map(std::size_t group, policy::ExpertMap map) {
  return groups_[group].experts->set_map(std::move(map));
}

void EngineFleet::make_pools() {
  if (options_.workers != RankWorkers::kOwn || options_.engines == 1) return;
  const int threads = options_.threads > 0 ? options_.threads : available_cpus();
  const int each = std::max(1, threads / options_.engines);
  for (int index = 0; index < options_.engines; ++index) {
    pools_.push_back(std::make_unique<ThreadPool>(
        ThreadPoolOptions{.workers = each,
                          .pin = options_.pin && each * options_.engines <= available_cpus(),
                          .first_cpu = index * each,
                          .nice = options_.nice}));
  }
}

}  // namespace gimbal::engine
