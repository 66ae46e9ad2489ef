#pragma once

#include <compare>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace gimbal::policy {

// What an order may know of a request. Frozen when the request is queued: a prefix that another
// request brings into the cache later does not move it.
struct OrderedRequest {
  TimePoint arrival{};
  double job_ms = 0;            // predicted prefill time of its uncached prompt tokens
  int priority = 0;             // lower runs earlier
  std::optional<double> aging;  // a in place of the option's
};

// Where a request stands among those of its class: smaller runs earlier. Ties: earlier arrival.
struct OrderKey {
  int level = 0;  // compared before the value
  double value = 0;

  auto operator<=>(const OrderKey&) const = default;
};

// The order of waiting requests of one class in one engine. Keys do not depend on the time, so a
// queue sorted by key stays sorted. Stateless; thread-safe.
class RequestOrder {
 public:
  virtual ~RequestOrder() = default;

  [[nodiscard]] virtual OrderKey key(const OrderedRequest& request) const = 0;

  // Requests that have waited longer than this run before all others of their class, in order of
  // arrival. nullopt: keys alone decide. `median_wait` is that of recently admitted requests.
  [[nodiscard]] virtual std::optional<Duration> promote_after(Duration median_wait) const;
};

struct RequestOrderOptions {
  double aging = 0.1;       // a of sjf-aging, ms of job a ms of waiting is worth; (0, 1e9]
  bool aging_auto = false;  // a starts there and is moved: see policy/aging.h
  double ms_per_priority_level = 1000;               // b; [0, 1e9]
  Duration promote_after = std::chrono::seconds(5);  // of sjf-priority-aging
  bool promote_after_auto = false;  // 2 × the median wait in place of promote_after
};

// By name:
//   fcfs                (priority, arrival)
//   sjf                 (priority, job size)
//   sjf-priority-aging  job size + b·priority; whoever waits beyond the threshold comes first
//                       (Gimbal v1, "SJF and priority-aware aging")
//   sjf-aging           k = job size + a·arrival + b·priority: a request is overtaken only by those
//                       that arrive within (job size + b·Δpriority)/a after it
// An unknown name or an option out of range is kInvalidArgument.
[[nodiscard]] Result<std::unique_ptr<RequestOrder>> make_request_order(
    std::string_view name, const RequestOrderOptions& options);
[[nodiscard]] std::vector<std::string_view> request_order_names();

}  // namespace gimbal::policy
