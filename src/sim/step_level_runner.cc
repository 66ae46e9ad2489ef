#include "sim/step_level_runner.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace gimbal::sim {
namespace {

constexpr double kMostBusy = 0.9;   // of a rank's time that services of others take from attention
constexpr int kRounds = 4;          // towards the rates' fixed point
constexpr double kStep = 0.5;       // of the way, a round
constexpr double kSameRate = 1e-3;  // relative: nearer rates are left as they are
constexpr double kClose = 1e-7;     // ms: nearer than this is there

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

StepLevelRunner::StepLevelRunner(EventQueue& queue, PassCosts& costs)
    : queue_(queue),
      costs_(costs),
      busy_(static_cast<std::size_t>(costs.devices())),
      loads_(static_cast<std::size_t>(costs.devices())) {}

std::int32_t StepLevelRunner::find(std::uint64_t gang_step) const {
  if (gang_step == sched::kSolo) return -1;
  for (std::size_t i = 0; i < passes_.size(); ++i) {
    if (passes_[i].open && passes_[i].gang_step == gang_step) return static_cast<std::int32_t>(i);
  }
  return -1;
}

std::int32_t StepLevelRunner::open() {
  if (unused_.empty()) {
    unused_.push_back(static_cast<std::int32_t>(passes_.size()));
    passes_.emplace_back();
  }
  const std::int32_t index = unused_.back();
  unused_.pop_back();
  Pass& pass = at(index);
  pass.gang_step = sched::kSolo;
  pass.awaited = 0;
  pass.members.clear();
  pass.position = 0;
  pass.rate = 1;
  pass.open = true;
  pass.begun = pass.moving = false;
  ++open_;
  return index;
}

void StepLevelRunner::close(std::int32_t index) {
  Pass& pass = at(index);
  GIMBAL_CHECK(pass.members.empty());
  pass.open = false;
  ++pass.generation;
  if (std::exchange(pass.moving, false)) std::erase(moving_, index);
  unused_.push_back(index);
  --open_;
}

void StepLevelRunner::expect(std::uint64_t gang_step, sched::RankSet members) {
  GIMBAL_CHECK(gang_step != sched::kSolo && find(gang_step) < 0);
  Pass& pass = at(open());
  pass.gang_step = gang_step;
  pass.awaited = members;
}

void StepLevelRunner::leave(std::uint64_t gang_step, Rank rank) {
  const std::int32_t index = find(gang_step);
  if (index < 0) return;
  Pass& pass = at(index);
  pass.awaited &= ~sched::rank_bit(rank);
  for (PassMember* member : pass.members) {
    if (member->rank == rank) return remove(*member);
  }
  if (pass.awaited == 0 && pass.members.empty()) return close(index);
  go_on(index);
}

void StepLevelRunner::run(PassMember& member) {
  GIMBAL_CHECK(!member.running && member.cursor < member.until);
  member.running = true;
  member.standing = false;
  if (member.pass >= 0) return go_on(member.pass);
  std::int32_t index = find(member.gang_step);
  if (index >= 0 && (at(index).awaited & sched::rank_bit(member.rank)) == 0) index = -1;
  if (index < 0) index = open();
  Pass& pass = at(index);
  pass.awaited &= ~sched::rank_bit(member.rank);
  pass.members.push_back(&member);
  member.pass = index;
  go_on(index);
}

void StepLevelRunner::yield(PassMember& member) {
  if (!member.running) return;
  Pass& pass = at(member.pass);
  catch_up(pass);
  int stage = member.cursor.index();
  if (pass.begun) {
    int here = pass.shape.stage_at(pass.position);
    if (pass.position > pass.shape.begin_of(here) + kClose) ++here;
    stage = std::max(stage, here);
  }
  member.until = std::min(member.until, Cursor::from_index(stage));
  if (pass.moving) return schedule(member.pass);
  wake(member.pass, queue_.now());  // it stands where it is, for it waits for others
}

void StepLevelRunner::wake(std::int32_t index, TimePoint time) {
  Pass& pass = at(index);
  ++pass.generation;
  queue_.at(
      time, *this,
      static_cast<std::uint64_t>(index) | (static_cast<std::uint64_t>(pass.generation) << 32));
}

int StepLevelRunner::next_end(const Pass& pass) const {
  int next = Cursor::end(costs_.layers()).index();
  for (const PassMember* member : pass.members) {
    if (member->running) next = std::min(next, member->until.index());
  }
  return next;
}

void StepLevelRunner::detach(PassMember& member) {
  Pass& pass = at(member.pass);
  std::erase(pass.members, &member);
  member.pass = -1;
  member.running = member.standing = false;
}

void StepLevelRunner::remove(PassMember& member) {
  const std::int32_t index = member.pass;
  if (index < 0) return;
  Pass& pass = at(index);
  catch_up(pass);
  detach(member);
  if (pass.members.empty() && pass.awaited == 0) {
    close(index);
    return update_rates();
  }
  if (pass.begun) reshape(pass);
  go_on(index);
}

void StepLevelRunner::hang(PassMember& member) {
  if (!member.running) return;
  member.running = false;
  member.standing = true;
  go_on(member.pass);
}

void StepLevelRunner::dead(Rank rank) {
  for (std::size_t i = 0; i < passes_.size(); ++i) {
    if (!passes_[i].open || (passes_[i].awaited & sched::rank_bit(rank)) == 0) continue;
    leave(passes_[i].gang_step, rank);
  }
}

void StepLevelRunner::changed(PassMember& member) {
  if (member.pass < 0) return;
  Pass& pass = at(member.pass);
  if (!pass.begun) return;
  catch_up(pass);
  reshape(pass);
  update_rates();
  schedule(member.pass);
}

void StepLevelRunner::costs_changed() {
  for (std::size_t i = 0; i < passes_.size(); ++i) {
    Pass& pass = passes_[i];
    if (!pass.open || !pass.begun) continue;
    catch_up(pass);
    reshape(pass);
  }
  update_rates();
  for (const std::int32_t index : moving_)
    schedule(index);
}

// What the members' rows make of its stages.
void StepLevelRunner::shape(Pass& pass) {
  double attention = 0;
  double dense = 0;
  double most = 0;
  pass.tokens.assign(static_cast<std::size_t>(costs_.topics()), 0.0);
  for (const PassMember* member : pass.members) {
    attention = std::max(attention, costs_.attention_ms(member->rank, member->work));
    dense = std::max(dense, costs_.dense_ms(member->rank, member->work));
    most = std::max(most, sum(member->tokens));
    for (std::size_t topic = 0; topic < member->tokens.size(); ++topic)
      pass.tokens[topic] += member->tokens[topic];
  }
  pass.experts = costs_.experts(pass.tokens, most, pass.loads);
  pass.services.clear();
  for (std::size_t device = 0; device < pass.loads.size(); ++device)
    pass.services.push_back(costs_.service_ms(device, pass.loads[device]));
  pass.shape = PassShape(costs_, attention, dense, pass.experts);
  const double total = pass.shape.total();
  pass.shares.clear();
  for (const double ms : pass.services)
    pass.shares.push_back(total > 0 ? costs_.moe_layers() * ms / total : 0);
}

void StepLevelRunner::reshape(Pass& pass) {
  const PassShape before = pass.shape;
  shape(pass);
  pass.position = before.moved_to(pass.shape, pass.position);
}

// Time passes for a pass when all its members have come and have a lease.
void StepLevelRunner::go_on(std::int32_t index) {
  Pass& pass = at(index);
  const bool moves = pass.awaited == 0 && !pass.members.empty() &&
                     std::all_of(pass.members.begin(), pass.members.end(),
                                 [](const PassMember* member) { return member->running; });
  if (moves && !pass.begun) {
    pass.begun = true;
    shape(pass);
    pass.position = pass.shape.begin_of(pass.members.front()->cursor.index());
  }
  if (moves != pass.moving) {
    if (!moves) catch_up(pass);
    pass.moving = moves;
    pass.since = queue_.now();
    if (moves) {
      moving_.push_back(index);
    } else {
      std::erase(moving_, index);
      ++pass.generation;
    }
    update_rates();
  }
  if (moves) schedule(index);
}

// Brings the pass to the present.
void StepLevelRunner::catch_up(Pass& pass) {
  if (!pass.moving) return;
  const double wall_ms = to_ms(queue_.now() - pass.since);
  pass.since = queue_.now();
  if (wall_ms <= 0) return;
  const double from = pass.position;
  pass.position = std::min(pass.shape.total(), from + wall_ms * pass.rate);
  note_progress(pass, from, pass.position, wall_ms);
}

void StepLevelRunner::note_progress(Pass& pass, double from, double to, double wall_ms) {
  const double moe = pass.shape.moe_layers_at(to) - pass.shape.moe_layers_at(from);
  const double dense = pass.shape.dense_layers_at(to) - pass.shape.dense_layers_at(from);
  const double all = sum(pass.tokens);
  double services = 0;
  for (std::size_t device = 0; device < loads_.size(); ++device) {
    const cost::ExpertLoad& load = pass.loads[device];
    const double ms = pass.services[device];
    services += ms;
    loads_[device].rows += moe * load.rows;
    loads_[device].distinct += moe * load.distinct;
    loads_[device].service_ms += moe * ms;
  }
  for (PassMember* member : pass.members) {
    const double share = all > 0 ? sum(member->tokens) / all : 0;
    const double own = moe * costs_.attention_ms(member->rank, member->work) +
                       dense * costs_.dense_ms(member->rank, member->work);
    member->attention_ms += own;
    member->service_ms += moe * services * share;
    member->distinct += moe * pass.experts.distinct * share;
    member->wall_ms += wall_ms;
  }
}

// Passes beside it take time of the devices. With u, the most that a service works for others:
// attention waits while it does, 1/(1 − u) as long. Of n services that a layer needs one at least
// is at work for others with probability 1 − (1 − u)^n, and then the layer waits for about as long
// as its own runs take.
double StepLevelRunner::rate_of(const Pass& pass) const {
  double busiest = 0;
  for (std::size_t device = 0; device < busy_.size(); ++device)
    busiest = std::max(busiest, busy_[device] - pass.shares[device] * pass.next_rate);
  busiest = std::clamp(busiest, 0.0, kMostBusy);
  const double met = 1 - std::pow(1 - busiest, costs_.devices());
  const double total = pass.shape.total();
  const double service = costs_.moe_layers() * pass.experts.service;
  const double exchange = costs_.moe_layers() * pass.experts.exchange;
  const double attention = std::max(0.0, total - service - exchange);
  const double longer = attention / (1 - busiest) + service * (1 + met) + exchange;
  return longer > 0 ? total / longer : 1;
}

// A pass that is slowed down works the services less: the rates are a fixed point, which is
// approached from the former ones.
void StepLevelRunner::update_rates() {
  for (const std::int32_t index : moving_)
    at(index).next_rate = moving_.size() > 1 ? at(index).rate : 1;
  for (int round = 0; round < kRounds && moving_.size() > 1; ++round) {
    std::fill(busy_.begin(), busy_.end(), 0.0);
    for (const std::int32_t index : moving_) {
      const Pass& pass = at(index);
      for (std::size_t device = 0; device < busy_.size(); ++device)
        busy_[device] += pass.shares[device] * pass.next_rate;
    }
    for (const std::int32_t index : moving_) {
      Pass& pass = at(index);
      pass.next_rate += kStep * (rate_of(pass) - pass.next_rate);
    }
  }
  for (const std::int32_t index : moving_) {
    Pass& pass = at(index);
    if (std::abs(pass.next_rate - pass.rate) <= kSameRate * pass.rate) continue;
    catch_up(pass);
    pass.rate = pass.next_rate;
    schedule(index);
  }
}

// Puts the pass's next end of a lease into the queue.
void StepLevelRunner::schedule(std::int32_t index) {
  const Pass& pass = at(index);
  if (!pass.moving) return;
  const double nominal = std::max(0.0, pass.shape.begin_of(next_end(pass)) - pass.position);
  const Duration wait = from_ms(nominal / pass.rate - to_ms(queue_.now() - pass.since));
  wake(index, queue_.now() + std::max(Duration::zero(), wait));
}

void StepLevelRunner::on_event(std::uint64_t what) {
  const auto index = static_cast<std::int32_t>(what & 0xffffffffU);
  Pass& pass = at(index);
  if (!pass.open || pass.generation != static_cast<std::uint32_t>(what >> 32)) return;
  catch_up(pass);
  const int next = next_end(pass);
  if (pass.moving) pass.position = std::max(pass.position, pass.shape.begin_of(next));
  const Cursor here = Cursor::from_index(next);
  const Cursor end = Cursor::end(costs_.layers());
  std::vector<PassMember*> reached = std::move(reached_);
  reached.clear();
  for (PassMember* member : pass.members) {
    if (member->running && member->until == here) reached.push_back(member);
  }
  for (PassMember* member : reached) {
    member->cursor = here;
    member->running = false;
    member->standing = true;
    if (here == end) detach(*member);
  }
  if (pass.members.empty() && pass.awaited == 0) {
    close(index);
    update_rates();
  } else {
    go_on(index);
  }
  for (PassMember* member : reached)
    member->listener->reached(*member);
  reached_ = std::move(reached);
}

}  // namespace gimbal::sim
