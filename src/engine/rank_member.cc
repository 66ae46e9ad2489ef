#include "engine/rank_member.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>
#include <variant>

#include "base/log.h"

namespace gimbal::engine {
namespace {

constexpr BatchId kDummyBatch{std::numeric_limits<BatchId::rep>::max()};

Duration sooner(Duration a, std::optional<Duration> b) {
  return b ? std::min(a, *b) : a;
}

}  // namespace

RankMember::RankMember(const GroupSeat& seat, const kernels::KernelContext& context,
                       Duration dead_after)
    : seat_(seat),
      port_(seat.group, seat.rank, context),
      place_{.rows = seat.group.rows(),
             .first_region = seat.rank.value() * seat.group.options().executor.max_batches,
             .experts = port_},
      watch_(seat.group, seat.rank, dead_after),
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
    seat_.group.bell(seat_.rank).ring();
  });
}

void RankMember::take_answers(std::vector<sched::Event>& events) {
  seat_.group.beat(seat_.rank);
  if (!seat_.group.alive(seat_.rank)) {
    throw std::runtime_error("this engine gave no sign of life and was declared dead");
  }
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

Duration RankMember::keep_time(TimePoint now) {
  Duration limit = std::max(Duration::zero(), watch_.next_look() - now);
  if (protocol_.asking()) limit = sooner(limit, seat_.gang.keep_time());
  return sooner(limit, port_.time_to_next_arrival());
}

void RankMember::watch(TimePoint now) {
  for (const Rank rank : watch_.look(now)) {
    log_error("rank {} gave no sign of life for {:.1f} s: declared dead", rank.value(),
              to_ms(watch_.dead_after()) / 1000.0);
    if (seat_.group.retire(rank)) seat_.gang.tell(cluster::GangRankDead{rank});
  }
}

void RankMember::retire() {
  seat_.gang.detach(seat_.rank);
  if (seat_.group.retire(seat_.rank)) seat_.gang.tell(cluster::GangRankDead{seat_.rank});
}

}  // namespace gimbal::engine
