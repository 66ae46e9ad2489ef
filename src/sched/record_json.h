#pragma once

#include <span>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "sched/event.h"
#include "sched/order_decision.h"
#include "sched/step_loop_options.h"

namespace gimbal::sched {

// The lines of a record as JSON, and back. Reading checks types and ranges; errors name the field.
// Logprobs are not written. Times are nanoseconds.

struct RecordHeader {
  StepLoopOptions options;
  int layers = 1;
};
[[nodiscard]] Json header_to_json(const RecordHeader& header);
[[nodiscard]] Result<RecordHeader> header_from_json(const Json& line);

struct RecordedCall {
  TimePoint now{};
  std::vector<Event> events;
};
[[nodiscard]] Json call_to_json(TimePoint now, std::span<const Event> events);
[[nodiscard]] Result<RecordedCall> call_from_json(const Json& line);

// Rows as [request, position, rows, samples], and a hash of all that the plan says.
[[nodiscard]] Json plan_to_json(const StepPlan& plan);

// With all that the decision was made of. Nothing reads it back: lines are compared.
[[nodiscard]] Json order_to_json(const OrderDecision& decision);

// One request; what reads it checks types, not that the request can be served.
[[nodiscard]] Json request_to_json(const Request& request);
[[nodiscard]] Result<Request> request_from_json(const Json& json);

}  // namespace gimbal::sched
