#include "cluster/gang_rank.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gimbal::cluster {

GangAnswer answer_of(const GangStart& command, GangPace pace) {
  return {.number = command.number,
          .members = command.members,
          .budget = pace == GangPace::kGang ? std::optional(command.budget) : std::nullopt,
          .dummy = (command.dummies & sched::rank_bit(command.rank)) != 0,
          .expected_ms = command.expected_ms,
          .hold_limit = command.hold_limit};
}

GangAnswer answer_of(const GangSolo& command) {
  return {.number = command.number, .expected_ms = command.expected_ms};
}

void GangRank::clear(GangOrders& orders) {
  orders.start.reset();
  orders.dummy.reset();
  orders.leave.reset();
  orders.events.clear();
}

void GangRank::follow(const GangAnswer& answer, GangOrders& orders) {
  clear(orders);
  last_seen_ = std::max(last_seen_, answer.number);
  if (asking_) {
    asking_ = false;
    orders.start = sched::StartStep{.number = answer.number,
                                    .members = answer.members,
                                    .prefill_budget = answer.budget,
                                    .expected_ms = answer.expected_ms};
    return;
  }
  if (answer.dummy) {
    dummy_ = answer.number;
    orders.dummy = answer;
    return;
  }
  if (answer.members == 0) {
    orders.events.emplace_back(
        GangStepEnded{.rank = rank_, .number = answer.number, .has_work = false});
    return;
  }
  orders.leave = answer;
  orders.events.emplace_back(
      GangLeft{.rank = rank_, .number = answer.number, .reason = LeaveReason::kNoWork});
}

void GangRank::said(const sched::Outputs& outputs, GangOrders& orders) {
  clear(orders);
  if (outputs.ended) {
    if (outputs.declined && outputs.ended->members != 0) {
      orders.leave = GangAnswer{.number = outputs.ended->number, .members = outputs.ended->members};
      orders.events.emplace_back(
          GangLeft{.rank = rank_, .number = outputs.ended->number, .reason = LeaveReason::kNoWork});
    } else {
      orders.events.emplace_back(GangStepEnded{
          .rank = rank_, .number = outputs.ended->number, .has_work = outputs.intent.has_value()});
    }
  }
  if (!outputs.intent) return;
  if (dummy_) {
    held_back_ = outputs.intent;
  } else {
    tell_intent(*outputs.intent, orders);
  }
}

void GangRank::dummy_ended(GangOrders& orders) {
  GIMBAL_CHECK(dummy_.has_value());
  clear(orders);
  orders.events.emplace_back(
      GangStepEnded{.rank = rank_, .number = *dummy_, .has_work = held_back_.has_value()});
  dummy_.reset();
  if (held_back_) tell_intent(*std::exchange(held_back_, std::nullopt), orders);
}

void GangRank::tell_intent(const policy::GangMember& member, GangOrders& orders) {
  asking_ = true;
  GangIntent intent{.member = member, .last_seen = last_seen_};
  intent.member.rank = rank_;
  orders.events.emplace_back(std::move(intent));
}

}  // namespace gimbal::cluster
