#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/ids.h"
#include "policy/prefill_cost.h"
#include "policy/request_order.h"

namespace gimbal::sched {

// Why it was decided where a request stands.
enum class OrderReason : std::uint8_t {
  kArrived,    // it was queued for the first time
  kEvicted,    // queued again: a running sequence took its pages
  kMadeRoom,   // queued again: it gave its pages to the first latency-sensitive head
  kGivenBack,  // queued again, in a dispatcher's queue: the engine that it got did not take it
  // It was admitted from another place than its last decision gave it:
  kPromoted,  // it had waited beyond the threshold, which puts it before all keys of its class
  kRetuned,   // by another key, because the weight of waiting was moved (aging_auto)
};
[[nodiscard]] std::string_view to_string(OrderReason reason);
inline constexpr int kOrderReasons = static_cast<int>(OrderReason::kRetuned) + 1;

// Where a request was put in the queue of its class, an engine's or a dispatcher's (which counts
// groups, by their first request), with all that decided it: the order, given `ordered`, gives
// `key` again, and `ordered.job_ms` is what `cost` makes of `job_tokens`. Requests with smaller
// keys run earlier; of one that is promoted, `waited` is above what the order makes of
// `median_wait`. Value type.
struct OrderDecision {
  RequestId request;
  OrderReason reason = OrderReason::kArrived;
  bool best_effort = false;
  int job_tokens = 0;                 // uncached tokens of its prompt
  policy::PrefillCost cost;           // as it was known then
  policy::OrderedRequest ordered;     // what the order was shown
  policy::OrderKey key;               // what it answered
  std::int64_t waiting_requests = 0;  // of its class, beside it
  std::int64_t waiting_tokens = 0;    // uncached prompt tokens of those
  Duration waited{};                  // since it arrived
  Duration median_wait{};             // of recently admitted requests
};

}  // namespace gimbal::sched
