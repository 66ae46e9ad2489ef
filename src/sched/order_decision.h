#pragma once

#include <cstdint>

#include "base/ids.h"
#include "policy/request_order.h"

namespace gimbal::sched {

// Where a request was put in the queue of its class (`3-algorithms` §3), with all that decided it:
// the order, given `ordered`, gives `key` again, and `ordered.job_ms` is what `cost` makes of
// `job_tokens`. Requests with smaller keys run earlier. Value type.
struct OrderDecision {
  RequestId request;
  bool best_effort = false;
  int job_tokens = 0;                 // uncached tokens of its prompt
  policy::PrefillCost cost;           // as it was known then
  policy::OrderedRequest ordered;     // what the order was shown
  policy::OrderKey key;               // what it answered
  std::int64_t waiting_requests = 0;  // of its class, when it came
  std::int64_t waiting_tokens = 0;    // uncached prompt tokens of those
};

}  // namespace gimbal::sched
