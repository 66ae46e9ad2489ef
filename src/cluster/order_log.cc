#include "cluster/order_log.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "cluster/json_fields.h"
#include "cluster/struct_fields.h"

namespace gimbal::cluster {

const OrderRecord& OrderLog::add(OrderRecord record) {
  record.number = ++added_;
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

Json order_to_json(const OrderRecord& record) {
  return write_fields(record);
}

Result<OrderRecord> order_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(OrderRecord record, read_fields<OrderRecord>(json));
  const auto order = policy::make_request_order(record.rule.name, record.rule.options);
  if (!order.ok()) return order.error().within("order");
  return record;
}

bool orders_the_same(const OrderRecord& record) {
  const auto order = policy::make_request_order(record.rule.name, record.rule.options);
  GIMBAL_CHECK(order.ok());
  const sched::OrderDecision& decision = record.decision;
  return decision.ordered.job_ms == decision.cost.ms(decision.job_tokens) &&
         (*order)->key(decision.ordered) == decision.key;
}

}  // namespace gimbal::cluster
