#include "cluster/order_log.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "cluster/json_fields.h"
#include "cluster/struct_fields.h"

namespace gimbal::cluster {
namespace {

Result<sched::OrderReason> reason_from(const Json& decision) {
  const auto reason = decision.find("reason");
  if (reason == decision.end()) return sched::OrderReason::kArrived;
  for (int i = 0; i < sched::kOrderReasons; ++i) {
    const auto known = static_cast<sched::OrderReason>(i);
    if (*reason == to_string(known)) return known;
  }
  return invalid_argument("decision.reason must be the name of a reason, is " + excerpt(*reason),
                          "decision.reason");
}

}  // namespace

const OrderRecord& OrderLog::add(OrderRecord record) {
  record.number = ++added_;
  const std::size_t place =
      record.engine ? static_cast<std::size_t>(record.engine->value()) + 1 : 0;
  if (place >= counts_.size()) counts_.resize(place + 1);
  counts_[place].engine = record.engine;
  ++counts_[place].reasons[static_cast<std::size_t>(record.decision.reason)];
  if (records_.size() >= most_records_) records_.pop_front();
  return records_.emplace_back(std::move(record));
}

std::vector<OrderRecord> OrderLog::of(RequestId request) const {
  std::vector<OrderRecord> found;
  std::ranges::copy_if(records_, std::back_inserter(found), [&](const OrderRecord& record) {
    return record.decision.request == request;
  });
  return found;
}

std::vector<OrderRecord> OrderLog::last(std::size_t most) const {
  const auto count = static_cast<std::ptrdiff_t>(std::min(most, records_.size()));
  return {records_.end() - count, records_.end()};
}

std::vector<OrderCounts> OrderLog::counts() const {
  std::vector<OrderCounts> made;
  std::ranges::copy_if(counts_, std::back_inserter(made), [](const OrderCounts& counts) {
    return std::ranges::any_of(counts.reasons, [](std::uint64_t count) { return count > 0; });
  });
  return made;
}

Json order_to_json(const OrderRecord& record) {
  Json json = write_fields(record);
  json["decision"]["reason"] = std::string(to_string(record.decision.reason));
  return json;
}

Result<OrderRecord> order_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(OrderRecord record, read_fields<OrderRecord>(json));
  const auto order = policy::make_request_order(record.rule.name, record.rule.options);
  if (!order.ok()) return order.error().within("order");
  if (const auto decision = json.find("decision"); decision != json.end()) {
    GIMBAL_ASSIGN_OR_RETURN(record.decision.reason, reason_from(*decision));
  }
  return record;
}

bool orders_the_same(const OrderRecord& record) {
  const auto order = policy::make_request_order(record.rule.name, record.rule.options);
  GIMBAL_CHECK(order.ok());
  const sched::OrderDecision& decision = record.decision;
  if (decision.reason == sched::OrderReason::kPromoted) {
    const auto promote_after = (*order)->promote_after(decision.median_wait);
    if (!promote_after || decision.waited <= *promote_after) return false;
  }
  return decision.ordered.job_ms == decision.cost.ms(decision.job_tokens) &&
         (*order)->key(decision.ordered) == decision.key;
}

}  // namespace gimbal::cluster
