#include "sim/simulated_group.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/check.h"
#include "sim/exact_runner.h"
#include "sim/step_level_runner.h"

namespace gimbal::sim {
namespace {

constexpr std::uint64_t kStepsBetween = 16;  // looks at the load of experts, as PressureFeed
constexpr double kDummyContext = 1;          // tokens that the row of a dummy step attends to

}  // namespace

SimulatedGroup::SimulatedGroup(const SimulatedGroupOptions& options,
                               const Collaborators& collaborators)
    : options_(options),
      with_(collaborators),
      costs_(with_.model, with_.loads, options.tier),
      pressure_(1, costs_.devices()) {
  GIMBAL_CHECK(costs_.ranks() == options.ranks);
  if (options.exact) {
    runner_ = std::make_unique<ExactRunner>(
        with_.queue, costs_,
        ExactRunner::Options{.routing = with_.routing,
                             .map = with_.map,
                             .max_rows = options.scheduler.max_num_batched_tokens,
                             .queue_rule = options.expert_queues,
                             .seed = options.seed});
  } else {
    runner_ = std::make_unique<StepLevelRunner>(with_.queue, costs_);
  }
  for (int rank = 0; rank < options.ranks; ++rank) {
    seats_.emplace_back(Rank{rank});
    dummies_.push_back(std::make_unique<Dummy>(*this, Rank{rank}));
    costs_.set_factor(Rank{rank}, options.factor);
  }
}

Result<std::unique_ptr<SimulatedGroup>> SimulatedGroup::make(const SimulatedGroupOptions& options,
                                                             const Collaborators& collaborators) {
  std::unique_ptr<SimulatedGroup> group(new SimulatedGroup(options, collaborators));
  const bool asks = options.ranks > 1 && options.pace != cluster::GangPace::kImmediate;
  if (asks) {
    cluster::GangCoordinatorOptions coordinator{
        .pace = options.pace, .ranks = options.ranks, .layers = collaborators.model.layers()};
    coordinator.patience = options.patience.value_or(coordinator.patience);
    GIMBAL_ASSIGN_OR_RETURN(
        group->planner_,
        policy::make_gang_planner(options.planner, {.rejoin_steps = coordinator.patience / 2}));
    group->coordinator_.emplace(coordinator, *group->planner_);
  }
  for (int rank = 0; rank < options.ranks; ++rank) {
    SimulatedEngineOptions engine{.id = EngineId{options.first_engine.value() + rank},
                                  .rank = Rank{rank},
                                  .scheduler = options.scheduler};
    engine.scheduler.asks_before_steps = asks;
    const auto place = static_cast<std::size_t>(engine.id.value());
    GIMBAL_ASSIGN_OR_RETURN(
        group->engines_.emplace_back(),
        SimulatedEngine::make(
            engine,
            {.queue = collaborators.queue,
             .runner = *group->runner_,
             .costs = group->costs_,
             .text = collaborators.text,
             .group = *group,
             .cluster = collaborators.cluster,
             .recorder = collaborators.recorders.empty() ? nullptr : collaborators.recorders[place],
             .trace = collaborators.trace}));
  }
  return group;
}

std::optional<cluster::GangCounters> SimulatedGroup::gang_counters() const {
  if (!coordinator_) return std::nullopt;
  return coordinator_->counters();
}

void SimulatedGroup::set_factor(Rank rank, double factor) {
  costs_.set_factor(rank, options_.factor * factor);
  runner_->costs_changed();
}

void SimulatedGroup::bury(Rank rank) {
  const bool survivors = std::any_of(engines_.begin(), engines_.end(),
                                     [](const auto& each) { return !each->failed(); });
  if (options_.ranks > 1 && survivors) {
    policy::ExpertMap left = map();
    for (const Rank device : devices_of(rank))
      left = left.without_rank(device);
    take_map(std::move(left));
  }
  engine(rank).bury();
  if (options_.ranks > 1) runner_->dead(rank);
  if (coordinator_) events_.emplace_back(cluster::GangRankDead{rank});
  runner_->costs_changed();
  pump();
}

void SimulatedGroup::take_map(policy::ExpertMap map) {
  own_map_ = std::move(map);
  auto loads = std::make_unique<cost::ExpertLoadTable>(with_.routing, *own_map_);
  costs_.set_loads(*loads);
  own_loads_ = std::move(loads);
  pressure_.map_changed();
  expected_rows_.clear();
}

const cluster::ExpertRows& SimulatedGroup::expected_rows(int topic) {
  GIMBAL_CHECK(shares_experts());
  if (expected_rows_.empty()) {
    const std::uint64_t fingerprint = map().fingerprint();
    const cost::ExpertLoadTable& loads = own_loads_ ? *own_loads_ : with_.loads;
    for (std::size_t each = 0; each < static_cast<std::size_t>(loads.topics()); ++each) {
      std::vector<double> token(static_cast<std::size_t>(loads.topics()));
      token[each] = 1;
      cluster::ExpertRows& rows = expected_rows_.emplace_back();
      rows.map = fingerprint;
      for (int rank = 0; rank < options_.ranks; ++rank) {
        double here = 0;
        for (const Rank device : devices_of(Rank{rank}))
          here += loads.mean(token, device).rows * costs_.moe_layers();
        rows.by_rank.push_back(here);
      }
    }
  }
  return expected_rows_[static_cast<std::size_t>(topic)];
}

Result<std::uint32_t> SimulatedGroup::set_map(policy::ExpertMap next) {
  if (options_.exact) return unsupported("an exact simulation keeps its expert map", "version");
  const policy::ExpertMap& now = map();
  GIMBAL_ASSIGN_OR_RETURN(next, policy::next_expert_map(now, std::move(next), [&now](Rank rank) {
                            return now.taken_out(rank);
                          }));
  take_map(std::move(next));
  runner_->costs_changed();
  return map().version();
}

// What an engine has said of its steps goes to the coordinator, whose answers come when all have
// read the engine's outputs.
void SimulatedGroup::on_steps(SimulatedEngine& engine, const sched::Outputs& outputs) {
  if (!coordinator_ || (!outputs.ended && !outputs.intent)) return;
  seats_[index(engine.rank())].said(outputs, orders_);
  carry_out(engine.rank());
}

// What orders_ has for services and coordinator.
void SimulatedGroup::carry_out(Rank rank) {
  if (orders_.leave) runner_->leave(orders_.leave->number, rank);
  events_.insert(events_.end(), orders_.events.begin(), orders_.events.end());
}

// Messages between ranks and coordinator, until there are none.
void SimulatedGroup::pump() {
  if (pumping_) return;
  pumping_ = true;
  while (!events_.empty() || !answers_.empty()) {
    if (!answers_.empty()) {
      const cluster::GangCommand command = answers_.front();
      answers_.pop_front();
      answer(command);
    } else {
      const cluster::GangEvent event = std::move(events_.front());
      events_.pop_front();
      tell_coordinator(event);
    }
  }
  pumping_ = false;
}

void SimulatedGroup::tell_coordinator(const cluster::GangEvent& event) {
  coordinator_->on(event, with_.queue.now(), commands_);
  for (const cluster::GangCommand& command : commands_) {
    if (const auto* wake = std::get_if<cluster::GangWake>(&command)) {
      with_.queue.at(std::max(wake->at, with_.queue.now()), *this, ++wake_);
      continue;
    }
    const auto* start = std::get_if<cluster::GangStart>(&command);
    if (start != nullptr && start->number != expected_) {
      expected_ = start->number;
      runner_->expect(start->number, start->members);
    }
    answers_.push_back(command);
  }
}

void SimulatedGroup::answer(const cluster::GangCommand& command) {
  const auto* start = std::get_if<cluster::GangStart>(&command);
  const auto* solo = std::get_if<cluster::GangSolo>(&command);
  const Rank rank = start != nullptr ? start->rank : solo->rank;
  if (engine(rank).failed()) return;  // it hears nothing
  seats_[index(rank)].follow(start != nullptr ? answer_of(*start, options_.pace) : answer_of(*solo),
                             orders_);
  carry_out(rank);
  if (orders_.dummy) start_dummy(*orders_.dummy, rank);
  if (const auto granted = orders_.start) engine(rank).start_step(*granted);
}

void SimulatedGroup::on_event(std::uint64_t what) {
  if (what != wake_) return;
  events_.emplace_back(cluster::GangTimer{});
  pump();
}

void SimulatedGroup::start_dummy(const cluster::GangAnswer& answer, Rank rank) {
  Dummy& dummy = *dummies_[index(rank)];
  dummy.member = PassMember{.rank = rank,
                            .gang_step = answer.number,
                            .gang_members = answer.members,
                            .work = {.decodes = 1, .decode_context = kDummyContext},
                            .tokens = {},
                            .listener = &dummy,
                            .until = Cursor::end(costs_.layers())};
  runner_->run(dummy.member);
}

void SimulatedGroup::Dummy::reached(PassMember& /*member*/) {
  EventQueue& queue = group_.with_.queue;
  queue.at(queue.now() + from_ms(group_.costs_.step_ms(member.rank, member.work)), *this, 0);
}

void SimulatedGroup::Dummy::on_event(std::uint64_t /*what*/) {
  if (group_.engine(member.rank).failed()) return;
  group_.seats_[index(member.rank)].dummy_ended(group_.orders_);
  group_.carry_out(member.rank);
  group_.pump();
}

std::optional<double> SimulatedGroup::pressure(Rank rank) {
  if (options_.ranks == 1) return 1.0;
  note_load();
  return pressure_.pressure(devices_of(rank));
}

std::vector<Rank> SimulatedGroup::devices_of(Rank rank) const {
  std::vector<Rank> devices;
  const int each = with_.model.attention_tp();
  for (int i = 0; i < each; ++i)
    devices.emplace_back(rank.value() * each + i);
  return devices;
}

void SimulatedGroup::note_load() {
  cluster::ExpertLoad load;
  for (const auto& each : engines_) {
    load.steps += each->steps();
    load.prefill_rows += each->prefill_rows();
  }
  load.steps /= static_cast<std::uint64_t>(options_.ranks);
  if (noted_steps_ > 0 && load.steps < noted_steps_ + kStepsBetween) return;
  noted_steps_ = std::max<std::uint64_t>(1, load.steps);
  load_rows_.clear();
  load_distinct_.clear();
  for (const PassRunner::Load& device : runner_->loads()) {
    load_rows_.push_back(static_cast<std::uint64_t>(device.rows));
    load_distinct_.push_back(static_cast<std::uint64_t>(device.distinct));
  }
  load.rows = load_rows_;
  load.distinct_experts = load_distinct_;
  snapshots_.clear();
  for (const auto& each : engines_)
    snapshots_.push_back(each->snapshot());
  load.cost = cluster::expert_cost(snapshots_);
  pressure_.note(load);
}

}  // namespace gimbal::sim
