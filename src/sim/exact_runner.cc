#include "sim/exact_runner.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::sim {
namespace {

constexpr std::size_t kRememberedSteps = 256;
constexpr int kKindBits = 2;
constexpr int kIndexBits = 30;

}  // namespace

ExactRunner::ExactRunner(EventQueue& queue, PassCosts& costs, const Options& options)
    : queue_(queue),
      costs_(costs),
      routing_(options.routing),
      map_(options.map),
      policy_(policy::make_expert_queue_policy(options.queue_rule).value()),
      rng_(hash_combine(options.seed, 0xe8ac7)),
      choices_(std::max(1, options.routing.experts_per_token())),
      max_outputs_(options.max_rows * choices_),
      latency_ms_(costs.model().exchange_ms(1e-6, 0, costs.tier())),
      ranks_(static_cast<std::size_t>(costs.ranks())),
      devices_(static_cast<std::size_t>(costs.devices())),
      loads_(devices_.size()),
      lists_(devices_.size()) {
  for (RankState& rank : ranks_) {
    rank.seats.resize(kSeats);
    rank.outstanding = std::make_unique<sched::OutstandingRows>(
        sched::OutstandingRowsOptions{.max_slots = kSeats, .max_outputs = kSeats * max_outputs_});
  }
  const int experts = std::max(1, costs.model().model().experts);
  for (Device& device : devices_) {
    device.queues = std::make_unique<sched::ExpertQueues>(sched::ExpertQueuesOptions{
        .layers = costs.layers(), .experts = experts, .max_entries = costs.ranks() * max_outputs_});
    if (ranks_.size() > 1 && costs.moe_layers() > 0) {
      device.holds = std::make_unique<sched::GangHolds>(
          sched::GangHoldsOptions{.ranks = costs.ranks(),
                                  .layers = costs.layers(),
                                  .posts_per_member = costs.moe_layers()});
    }
  }
}

void ExactRunner::wake(TimePoint time, Kind kind, std::uint64_t index, std::uint32_t generation) {
  queue_.at(time, *this,
            (std::uint64_t{generation} << (kKindBits + kIndexBits)) | (index << kKindBits) | kind);
}

void ExactRunner::on_event(std::uint64_t what) {
  const auto index = static_cast<std::size_t>((what >> kKindBits) & ((1U << kIndexBits) - 1));
  const auto generation = static_cast<std::uint32_t>(what >> (kKindBits + kIndexBits));
  switch (static_cast<Kind>(what & ((1U << kKindBits) - 1))) {
    case kLocal: {
      RankState& rank = ranks_[index];
      if (rank.generation != generation || !rank.computing) return;
      const Rank which{static_cast<std::int32_t>(index)};
      pause_local(which);
      return end_stage(which, rank.stages);
    }
    case kRun:
      if (devices_[index].generation == generation) end_run(index);
      return;
    case kPost:
      return take_post(static_cast<std::int32_t>(index));
    case kReturn:
      return take_return(static_cast<std::int32_t>(index));
  }
}

void ExactRunner::expect(std::uint64_t gang_step, sched::RankSet members) {
  if (steps_.size() < kRememberedSteps) {
    steps_.emplace_back(gang_step, members);
  } else {
    steps_[next_step_++ % kRememberedSteps] = {gang_step, members};
  }
}

sched::RankSet ExactRunner::members_of(std::uint64_t gang_step) const {
  for (const auto& [number, members] : steps_) {
    if (number == gang_step) return members;
  }
  return 0;
}

void ExactRunner::leave(std::uint64_t gang_step, Rank rank) {
  const sched::RankSet members = members_of(gang_step);
  if (members == 0) return;
  for (std::size_t device = 0; device < devices_.size(); ++device) {
    if (devices_[device].holds == nullptr) continue;
    devices_[device].holds->leave(rank, gang_step, members, release_);
    release(device);
  }
}

// Its experts run elsewhere: what sources still miss they ask for again, wherever it was.
void ExactRunner::dead(Rank rank) {
  gone_ |= sched::rank_bit(rank);
  const bool somebody_left = std::popcount(gone_) < std::ssize(ranks_);
  for (std::size_t device = 0; device < devices_.size(); ++device) {
    if (rank_of(device) == rank) {
      if (somebody_left) map_ = map_.without_rank(Rank{static_cast<std::int32_t>(device)});
      devices_[device].hung = true;
      ++devices_[device].generation;
    } else if (devices_[device].holds != nullptr) {
      devices_[device].holds->dead(rank, release_);
      release(device);
    }
  }
  for (std::size_t other = 0; other < ranks_.size(); ++other)
    repost(Rank{static_cast<std::int32_t>(other)});
}

void ExactRunner::run(PassMember& member) {
  RankState& rank = at(member.rank);
  GIMBAL_CHECK(!member.running && member.cursor < member.until && rank.active < 0);
  if (member.pass < 0) {
    const auto seat = std::find_if(rank.seats.begin(), rank.seats.end(),
                                   [](const Seat& each) { return each.member == nullptr; });
    GIMBAL_CHECK(seat != rank.seats.end(), "too many batches have begun");
    seat->member = &member;
    member.pass = static_cast<std::int32_t>(seat - rank.seats.begin());
  }
  member.running = true;
  member.standing = false;
  rank.active = member.pass;
  rank.lease_began = queue_.now();
  begin_stage(member.rank);
}

void ExactRunner::yield(PassMember& member) {
  if (!member.running) return;
  RankState& rank = at(member.rank);
  int stages = 1;
  if (rank.local && rank.stages == 2) {  // attention, and the router after it
    const double router = kRouterPart * costs_.attention_ms(member.rank, member.work);
    const bool was_computing = rank.computing;
    if (was_computing) pause_local(member.rank);
    if (rank.left_ms > router) {
      rank.left_ms -= router;
      rank.stages = 1;
    } else {
      stages = 2;
    }
    if (was_computing) start_local(member.rank);
  }
  member.until = std::min(member.until, Cursor::from_index(member.cursor.index() + stages));
}

void ExactRunner::hang(PassMember& member) {
  RankState& rank = at(member.rank);
  if (rank.computing) pause_local(member.rank);
  rank.hung = true;
  for (std::size_t device = 0; device < devices_.size(); ++device) {
    if (rank_of(device) != member.rank) continue;
    devices_[device].hung = true;
    ++devices_[device].generation;
  }
}

void ExactRunner::remove(PassMember& member) {
  if (member.pass < 0) return;
  RankState& rank = at(member.rank);
  const sched::SourceSlot slot{member.pass};
  if (rank.active == member.pass) {
    if (rank.computing) pause_local(member.rank);
    rank.active = -1;
  }
  for (Device& device : devices_)
    device.queues->cancel(member.rank, slot, rank.outstanding->epoch(slot));
  rank.outstanding->drop(slot);
  rank.seats[static_cast<std::size_t>(member.pass)].member = nullptr;
  member.pass = -1;
  member.running = member.standing = false;
  if (member.gang_step != sched::kSolo && member.cursor < Cursor::end(costs_.layers())) {
    leave(member.gang_step, member.rank);
  }
}

// The member's lease is over.
void ExactRunner::stand(Rank which) {
  RankState& rank = at(which);
  PassMember& member = active(rank);
  member.wall_ms += to_ms(queue_.now() - rank.lease_began);
  member.running = false;
  member.standing = true;
  rank.active = -1;
  if (member.cursor == Cursor::end(costs_.layers())) {
    rank.outstanding->drop(sched::SourceSlot{member.pass});
    rank.seats[static_cast<std::size_t>(member.pass)].member = nullptr;
    member.pass = -1;
    member.standing = false;
  }
  member.listener->reached(member);
}

void ExactRunner::begin_stage(Rank which) {
  RankState& rank = at(which);
  const PassMember& member = active(rank);
  const int layer = member.cursor.layer.value();
  const bool moe = costs_.is_moe(layer);
  rank.local = true;
  rank.stages = 1;
  if (moe && member.cursor.stage == Stage::kExperts) return post_rows(which);
  if (moe) {
    const double ms = costs_.attention_ms(which, member.work);
    const bool router = member.cursor.stage == Stage::kRouter;
    const bool both = !router && member.until.index() > member.cursor.index() + 1;
    rank.stages = both ? 2 : 1;
    rank.left_ms = router ? kRouterPart * ms : both ? ms : (1 - kRouterPart) * ms;
  } else {
    const double ms = costs_.dense_ms(which, member.work);
    rank.left_ms = member.cursor.stage == Stage::kAttention ? (1 - kDensePart) * ms
                   : member.cursor.stage == Stage::kExperts ? kDensePart * ms
                                                            : 0;
  }
  start_local(which);
}

void ExactRunner::end_stage(Rank which, int stages) {
  RankState& rank = at(which);
  PassMember& member = active(rank);
  member.cursor = Cursor::from_index(member.cursor.index() + stages);
  if (member.cursor >= member.until) return stand(which);
  begin_stage(which);
}

// Time passes for the rank's own work while none of its services runs.
void ExactRunner::start_local(Rank which) {
  RankState& rank = at(which);
  if (rank.active < 0 || !rank.local || rank.computing || rank.hung || rank.busy_services > 0)
    return;
  rank.computing = true;
  rank.since = queue_.now();
  wake(queue_.now() + from_ms(rank.left_ms), kLocal, static_cast<std::uint64_t>(which.value()),
       ++rank.generation);
}

void ExactRunner::pause_local(Rank which) {
  RankState& rank = at(which);
  const double done = to_ms(queue_.now() - rank.since);
  rank.computing = false;
  ++rank.generation;
  rank.left_ms = std::max(0.0, rank.left_ms - done);
  active(rank).attention_ms += done;
}

}  // namespace gimbal::sim
