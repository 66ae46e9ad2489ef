#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/result.h"
#include "policy/request_order.h"
#include "sched/order_decision.h"

namespace gimbal::cluster {

// How queues are ordered.
struct OrderRule {
  std::string name;
  policy::RequestOrderOptions options;
};

// One ordering decision, of an engine or of the dispatcher, with all that it was made of: the rule,
// given these inputs, decides the same again.
struct OrderRecord {
  std::uint64_t number = 0;  // of ordering decisions, from 1
  TimePoint time{};
  std::optional<EngineId> engine;  // nullopt: the dispatcher's queue, of late binding
  OrderRule rule;
  sched::OrderDecision decision;
};

// How many were made at one place since the start, by reason.
struct OrderCounts {
  std::optional<EngineId> engine;  // nullopt: the dispatcher's queue
  std::array<std::uint64_t, sched::kOrderReasons> reasons{};
};

// The last ordering decisions of all engines and the dispatcher, and counts of all. One thread.
class OrderLog {
 public:
  explicit OrderLog(std::size_t most_records) : most_records_(most_records) {}

  // Numbers the record.
  const OrderRecord& add(OrderRecord record);

  // Those about a request, oldest first: of each engine that had it, one when it came and more when
  // it was moved.
  [[nodiscard]] std::vector<OrderRecord> of(RequestId request) const;
  // The last ones, at most `most`, oldest first.
  [[nodiscard]] std::vector<OrderRecord> last(std::size_t most) const;
  // Of the dispatcher and each engine that have made any, in this order.
  [[nodiscard]] std::vector<OrderCounts> counts() const;

 private:
  std::size_t most_records_;  // >= 1
  std::deque<OrderRecord> records_;
  std::uint64_t added_ = 0;
  std::vector<OrderCounts> counts_;  // the dispatcher's at 0, an engine's at its number + 1
};

// What can be seen of the ordering decisions of all engines. Thread-safe.
class OrderInspector {
 public:
  virtual ~OrderInspector() = default;

  // As of OrderLog.
  [[nodiscard]] virtual std::vector<OrderRecord> orders_of(RequestId request) const = 0;
  [[nodiscard]] virtual std::vector<OrderRecord> last_orders(std::size_t most) const = 0;
  [[nodiscard]] virtual std::vector<OrderCounts> order_counts() const = 0;
};

// As decision_to_json and its siblings do for dispatch decisions. A record of an order has the
// field "order", which those of a dispatch have not.
[[nodiscard]] Json order_to_json(const OrderRecord& record);
[[nodiscard]] Result<OrderRecord> order_from_json(const Json& json);
// Whether the rule decides that again. Requires: a record that order_from_json took, or of a log.
[[nodiscard]] bool orders_the_same(const OrderRecord& record);

}  // namespace gimbal::cluster
