#include "cluster/gang_coordinator.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace gimbal::cluster {
namespace {

constexpr double kNewest = 0.5;  // weight of the last step in means
constexpr double kLeastSlowness = 0.25;
constexpr double kMostSlowness = 8;
constexpr TimePoint kForever = TimePoint::max();

Rank rank_of(std::size_t index) {
  return Rank{static_cast<std::int32_t>(index)};
}

}  // namespace

std::string_view to_string(LeaveReason reason) {
  constexpr std::array<std::string_view, kLeaveReasons> kNames = {"suspended", "split", "late",
                                                                  "no_work", "failed"};
  return kNames[static_cast<std::size_t>(reason)];
}

std::string_view to_string(SoloReason reason) {
  constexpr std::array<std::string_view, kSoloReasons> kNames = {"immediate", "alone", "deadline",
                                                                 "planned"};
  return kNames[static_cast<std::size_t>(reason)];
}

Result<GangPace> parse_gang_pace(std::string_view name) {
  if (name == "gang") return GangPace::kGang;
  if (name == "lockstep") return GangPace::kLockstep;
  if (name == "immediate") return GangPace::kImmediate;
  return invalid_argument(fmt::format("expert pace must be gang, lockstep or immediate: {}", name),
                          "name");
}

GangCoordinator::GangCoordinator(const GangCoordinatorOptions& options,
                                 const policy::GangPlanner& planner)
    : options_(options), planner_(planner) {
  GIMBAL_CHECK(options.ranks >= 1 && options.ranks <= sched::kMostGangRanks);
  GIMBAL_CHECK(options.layers >= 1 && options.patience >= 0 && options.grace >= 0);
  GIMBAL_CHECK(options.least_wait >= Duration::zero());
  GIMBAL_CHECK(options.hold_steps >= 0 && options.least_hold >= Duration::zero());
  members_.resize(static_cast<std::size_t>(options.ranks));
}

void GangCoordinator::on(const GangEvent& event, TimePoint now,
                         std::vector<GangCommand>& commands) {
  GIMBAL_CHECK(now >= now_, "time goes back");
  now_ = now;
  commands.clear();
  commands_ = &commands;
  std::visit([this](const auto& what) { on_event(what); }, event);
  settle();
  commands_ = nullptr;
}

GangCoordinator::Member& GangCoordinator::at(Rank rank) {
  GIMBAL_CHECK(rank.value() >= 0 && rank.value() < options_.ranks);
  return members_[static_cast<std::size_t>(rank.value())];
}

void GangCoordinator::on_event(const GangIntent& event) {
  Member& member = at(event.member.rank);
  if (member.state == State::kDead) return;
  GIMBAL_CHECK(event.last_seen <= member.number, "a rank has seen an answer that was never sent");
  if (event.last_seen < member.number) {
    ++counters_.crossed;
    return;
  }
  member.intent = event.member;
  ++member.intents;
  if (member.state == State::kPending) return;
  if (member.state == State::kRunning) note_end(member);
  member.state = State::kPending;
  member.since = now_;
}

void GangCoordinator::on_event(const GangStepEnded& event) {
  Member& member = at(event.rank);
  if (member.state != State::kRunning || event.number != member.number) return;
  note_end(member);
  member.state = event.has_work ? State::kBetween : State::kIdle;
  member.ready = now_;
}

void GangCoordinator::on_event(const GangLeft& event) {
  Member& member = at(event.rank);
  if (member.state == State::kDead) return;
  if (event.reason == LeaveReason::kLate) {
    if (event.number <= member.late) return;
    member.late = event.number;
  }
  ++counters_.leaves[static_cast<std::size_t>(event.reason)];
  if (member.state != State::kRunning || event.number != member.number) return;
  member.left = true;
  if (event.reason == LeaveReason::kNoWork) member.state = State::kIdle;
}

void GangCoordinator::on_event(const GangIdle& event) {
  Member& member = at(event.rank);
  if (member.state == State::kDead || event.last_seen < member.number) return;
  counters_.withdrawn += member.state == State::kPending ? 1 : 0;
  member.state = State::kIdle;
}

void GangCoordinator::on_event(const GangRankDead& event) {
  at(event.rank).state = State::kDead;
}

void GangCoordinator::on_event(const GangTimer& /*event*/) {
  wake_.reset();
}

// A step that was left in between, because it was suspended perhaps, says nothing of the next; one
// in which the rank was late does.
void GangCoordinator::note_end(Member& member) {
  if (member.left && member.late != member.number) return;
  for (Member& other : members_) {  // a gang step ends for all its members at about the same time
    if (other.state == State::kRunning && other.number == member.number) {
      other.ready = std::min(other.ready, now_);
    }
  }
  const double ms = to_ms(now_ - member.since);
  member.measured_ms =
      member.measured_ms == 0 ? ms : (1 - kNewest) * member.measured_ms + kNewest * ms;
  // A stall is not how much slower than predicted its steps are.
  if (member.predicted_ms <= 0 || member.late == member.number) return;
  member.slowness = std::clamp((1 - kNewest) * member.slowness + kNewest * ms / member.predicted_ms,
                               kLeastSlowness, kMostSlowness);
}

const GangCoordinator::Member* GangCoordinator::first_pending() const {
  const Member* first = nullptr;
  for (const Member& member : members_) {
    if (member.state != State::kPending) continue;
    if (first == nullptr || member.since < first->since) first = &member;
  }
  return first;
}

double GangCoordinator::own_step_ms(const Member& member) const {
  double ms = member.measured_ms;
  if (member.intent.times) {
    ms = std::max(ms, member.slowness * member.intent.alone_ms(member.intent.want));
  }
  if (ms > 0) return ms;
  for (const Member& other : members_)
    ms = std::max(ms, other.measured_ms);
  return ms;
}

// Until when `first`, the first of those with an intent, waits for the others; nullopt: no longer,
// kForever: until they have spoken.
std::optional<TimePoint> GangCoordinator::deadline(const Member& first) {
  const double step_ms = own_step_ms(first);
  const auto steps = [&](double count) {
    return std::max(from_ms(count * step_ms), options_.least_wait);
  };
  const Duration grace = steps(options_.grace);
  std::optional<TimePoint> latest;
  missed_ = false;
  for (Member& member : members_) {
    const bool runs = member.state == State::kRunning && !member.left;
    if (!runs && member.state != State::kBetween) continue;
    // Whose times are not fitted, of them the planner knows nothing.
    const bool known = first.intent.times && member.intent.times;
    const double patience = known ? options_.patience : std::min(options_.patience, 1.0);
    const bool late = member.ready > first.since + steps(patience);
    if ((late && !options_.to_the_end) || would_part(first, member)) continue;
    if (options_.to_the_end) return kForever;
    const TimePoint until = std::max(member.ready, first.since) + grace;
    if (until <= now_) {
      missed_ = true;
    } else {
      latest = std::max(latest.value_or(until), until);
    }
  }
  return latest;
}

// Whether the planner would send one of the two off alone, if they met with what they last wanted:
// then waiting for each other gains nothing.
bool GangCoordinator::would_part(const Member& first, Member& other) {
  const bool known = other.asker == &first && other.asker_intents == first.intents &&
                     other.asked_intents == other.intents;
  if (known) return other.parts;
  pair_ = {first.intent, other.intent};
  planner_.plan({.members = pair_, .layers = options_.layers}, pair_plan_);
  other.asker = &first;
  other.asker_intents = first.intents;
  other.asked_intents = other.intents;
  other.parts = pair_plan_.alone[0] || pair_plan_.alone[1];
  return other.parts;
}

bool GangCoordinator::all_have_spoken() const {
  return std::none_of(members_.begin(), members_.end(), [](const Member& member) {
    return member.state == State::kRunning || member.state == State::kBetween;
  });
}

void GangCoordinator::wake_at(TimePoint time) {
  if (wake_ == time) return;
  wake_ = time;
  commands_->emplace_back(GangWake{time});
}

void GangCoordinator::settle() {
  const Member* first = first_pending();
  if (first == nullptr) return;
  if (options_.pace == GangPace::kGang) {
    if (const auto until = deadline(*first)) {
      if (*until != kForever) wake_at(*until);
      return;
    }
  } else if (options_.pace == GangPace::kLockstep) {
    missed_ = false;
    if (!all_have_spoken()) return;
  }
  fix_members();
}

void GangCoordinator::fix_members() {
  joining_.clear();
  intents_.clear();
  bool dummies = false;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    dummies = dummies || members_[i].state == State::kIdle;
    if (members_[i].state != State::kPending) continue;
    joining_.push_back(i);
    intents_.push_back(members_[i].intent);
  }
  if (options_.pace == GangPace::kImmediate) {
    for (const std::size_t i : joining_)
      go_solo(i, SoloReason::kImmediate);
  } else if (joining_.size() == 1 && !(dummies && options_.pace == GangPace::kLockstep)) {
    go_solo(joining_[0], missed_ ? SoloReason::kDeadline : SoloReason::kAlone);
  } else {
    start_gang();
  }
}

void GangCoordinator::start_gang() {
  if (options_.pace == GangPace::kLockstep) {
    plan_.budgets.clear();
    for (const policy::GangMember& intent : intents_)
      plan_.budgets.push_back(intent.want);
    plan_.alone.assign(intents_.size(), false);
    plan_.step_ms = 0;
  } else {
    planner_.plan({.members = intents_, .layers = options_.layers}, plan_);
  }
  GangStart common;
  double longest_ms = 0;  // of the members' last steps
  double slowness = 0;
  int together = 0;
  for (std::size_t k = 0; k < joining_.size(); ++k) {
    if (plan_.alone[k]) continue;
    const Member& member = members_[joining_[k]];
    common.members |= sched::rank_bit(rank_of(joining_[k]));
    longest_ms = std::max(longest_ms, member.measured_ms);
    slowness = std::max(slowness, member.slowness);
    ++together;
  }
  if (options_.pace == GangPace::kLockstep) {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (members_[i].state == State::kIdle) common.dummies |= sched::rank_bit(rank_of(i));
    }
    common.members |= common.dummies;
  }
  common.expected_ms = plan_.step_ms > 0 ? slowness * plan_.step_ms : longest_ms;
  common.hold_limit = hold_limit(common.expected_ms);
  const bool gang = together >= 2 || common.dummies != 0;
  if (gang) {
    common.number = ++last_number_;
    ++counters_.gang_steps;
  }
  for (std::size_t k = 0; k < joining_.size(); ++k) {
    if (plan_.alone[k]) {
      go_solo(joining_[k], SoloReason::kPlanned);
    } else if (gang) {
      start_rank(joining_[k], common, plan_.budgets[k]);
    } else {
      go_solo(joining_[k], SoloReason::kAlone);
    }
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if ((common.dummies & sched::rank_bit(rank_of(i))) != 0) start_rank(i, common, 0);
  }
}

// Without the times of all nobody knows how long the slowest member's prefill takes: what steps
// took in the mean says nothing of that.
Duration GangCoordinator::hold_limit(double expected_ms) const {
  if (options_.pace != GangPace::kGang || options_.hold_steps == 0) return Duration::zero();
  for (std::size_t k = 0; k < joining_.size(); ++k) {
    if (!plan_.alone[k] && !intents_[k].times) return Duration::zero();
  }
  return std::max(from_ms(options_.hold_steps * expected_ms), options_.least_hold);
}

void GangCoordinator::start_rank(std::size_t index, const GangStart& common, int budget) {
  GangStart start = common;
  start.rank = rank_of(index);
  start.budget = budget;
  ++counters_.joins;
  counters_.dummies += (common.dummies & sched::rank_bit(rank_of(index))) != 0 ? 1 : 0;
  answered(members_[index], common.number, plan_.step_ms, common.expected_ms);
  commands_->emplace_back(start);
}

void GangCoordinator::go_solo(std::size_t index, SoloReason reason) {
  Member& member = members_[index];
  const double predicted_ms = member.intent.times ? member.intent.alone_ms(member.intent.want) : 0;
  const double expected_ms = predicted_ms > 0 ? member.slowness * predicted_ms : member.measured_ms;
  ++counters_.solos[static_cast<std::size_t>(reason)];
  answered(member, ++last_number_, predicted_ms, expected_ms);
  commands_->emplace_back(GangSolo{.rank = rank_of(index),
                                   .number = member.number,
                                   .reason = reason,
                                   .expected_ms = expected_ms});
}

void GangCoordinator::answered(Member& member, std::uint64_t number, double predicted_ms,
                               double expected_ms) {
  if (member.state == State::kPending && member.since < now_) {
    ++counters_.waits;
    counters_.waited += now_ - member.since;
  }
  member.state = State::kRunning;
  member.left = false;
  member.number = number;
  member.since = now_;
  member.ready = now_ + from_ms(expected_ms);
  member.predicted_ms = predicted_ms;
}

}  // namespace gimbal::cluster
