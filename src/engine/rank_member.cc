#include "engine/rank_member.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

namespace gimbal::engine {
namespace {

constexpr BatchId kDummyBatch{std::numeric_limits<BatchId::rep>::max()};

}  // namespace

RankMember::RankMember(const GroupSeat& seat, const kernels::KernelContext& context)
    : seat_(seat),
      port_(seat.group, seat.rank, context),
      place_{.rows = seat.group.rows(),
             .first_region = seat.rank.value() * seat.group.options().executor.max_batches,
             .experts = port_},
      protocol_(seat.rank) {}

RankMember::~RankMember() {
  seat_.gang.detach(seat_.rank);
}

void RankMember::join(ModelExecutor& executor, PageId dummy_page) {
  executor_ = &executor;
  dummy_page_ = dummy_page;
  seat_.gang.attach(seat_.rank, [this](const cluster::GangAnswer& answer) {
    {
      const std::lock_guard lock(mutex_);
      answers_.push_back(answer);
    }
    answered_.store(true);
    seat_.group.life().bell(seat_.rank.value()).ring();
  });
}

void RankMember::take_answers(std::vector<sched::Event>& events) {
  tell_of_late();
  if (!answered_.load()) return;
  {
    const std::lock_guard lock(mutex_);
    answered_.store(false);
    std::swap(answers_, taken_);
  }
  for (const cluster::GangAnswer& answer : taken_)
    follow(answer, events);
  taken_.clear();
}

void RankMember::follow(const cluster::GangAnswer& answer, std::vector<sched::Event>& events) {
  protocol_.follow(answer, orders_);
  port_.limit_holds(answer.number, answer.hold_limit);
  if (orders_.start) events.emplace_back(*orders_.start);
  if (orders_.dummy) {
    executor_->start_dummy(kDummyBatch, dummy_page_, answer.number, answer.members);
    executor_->advance(kDummyBatch, Cursor::end(executor_->layers()));
  }
  carry_out();
}

// What orders_ has for services and coordinator.
void RankMember::carry_out() {
  if (orders_.leave) port_.leave(orders_.leave->number, orders_.leave->members);
  for (const cluster::GangEvent& event : orders_.events)
    seat_.gang.tell(event);
}

// Of members that were not waited for any longer at services which this thread ran.
void RankMember::tell_of_late() {
  for (const sched::GangRelease::Late& late : port_.late()) {
    seat_.gang.tell(cluster::GangLeft{
        .rank = late.rank, .number = late.step, .reason = cluster::LeaveReason::kLate});
  }
  port_.late().clear();
}

void RankMember::take_dummy_events(std::vector<sched::Event>& events) {
  if (!protocol_.in_dummy() || events.empty()) return;
  const auto of_dummy = [](const sched::Event& event) {
    const auto* reached = std::get_if<sched::StageReached>(&event);
    const auto* finished = std::get_if<sched::StepFinished>(&event);
    return (reached != nullptr && reached->batch == kDummyBatch) ||
           (finished != nullptr && finished->batch == kDummyBatch);
  };
  for (const sched::Event& event : events) {
    if (!of_dummy(event)) continue;
    if (std::holds_alternative<sched::StageReached>(event)) {
      executor_->finish(kDummyBatch);
      continue;
    }
    protocol_.dummy_ended(orders_);
    carry_out();
  }
  std::erase_if(events, of_dummy);
}

void RankMember::tell(const sched::Outputs& said) {
  protocol_.said(said, orders_);
  carry_out();
}

std::optional<Duration> RankMember::keep_time() {
  tell_of_late();
  std::optional<Duration> limit = port_.time_to_next_due();
  if (const auto gang = protocol_.asking() ? seat_.gang.keep_time() : std::nullopt)
    limit = std::min(*gang, limit.value_or(*gang));
  return limit;
}

void RankMember::retire(Rank rank) {
  if (rank == seat_.rank) seat_.gang.detach(rank);
  if (seat_.group.retire(rank)) seat_.gang.tell(cluster::GangRankDead{rank});
}

}  // namespace gimbal::engine
