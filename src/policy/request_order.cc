#include "policy/request_order.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace gimbal::policy {
namespace {

double arrival_ms(const OrderedRequest& request) {
  return to_ms(request.arrival.time_since_epoch());
}

class Fcfs final : public RequestOrder {
 public:
  explicit Fcfs(const RequestOrderOptions& /*options*/) {}
  [[nodiscard]] OrderKey key(const OrderedRequest& request) const override {
    return {request.priority, arrival_ms(request)};
  }
};

class Sjf final : public RequestOrder {
 public:
  explicit Sjf(const RequestOrderOptions& /*options*/) {}
  [[nodiscard]] OrderKey key(const OrderedRequest& request) const override {
    return {request.priority, request.job_ms};
  }
};

class SjfPriorityAging final : public RequestOrder {
 public:
  explicit SjfPriorityAging(const RequestOrderOptions& options) : options_(options) {}
  [[nodiscard]] OrderKey key(const OrderedRequest& request) const override {
    return {0, request.job_ms + options_.ms_per_priority_level * request.priority};
  }
  [[nodiscard]] std::optional<Duration> promote_after(Duration median_wait) const override {
    return options_.promote_after_auto ? 2 * median_wait : options_.promote_after;
  }

 private:
  RequestOrderOptions options_;
};

class SjfAging final : public RequestOrder {
 public:
  explicit SjfAging(const RequestOrderOptions& options) : options_(options) {}
  [[nodiscard]] OrderKey key(const OrderedRequest& request) const override {
    return {0, request.job_ms + request.aging.value_or(options_.aging) * arrival_ms(request) +
                   options_.ms_per_priority_level * request.priority};
  }

 private:
  RequestOrderOptions options_;
};

template <class Order>
std::unique_ptr<RequestOrder> make(const RequestOrderOptions& options) {
  return std::make_unique<Order>(options);
}

constexpr double kMostWeight = 1e9;  // so that keys stay numbers

struct NamedOrder {
  std::string_view name;
  std::unique_ptr<RequestOrder> (*make)(const RequestOrderOptions&);
};

constexpr std::array kOrders{
    NamedOrder{"fcfs", make<Fcfs>},
    NamedOrder{"sjf", make<Sjf>},
    NamedOrder{"sjf-priority-aging", make<SjfPriorityAging>},
    NamedOrder{"sjf-aging", make<SjfAging>},
};

}  // namespace

std::optional<Duration> RequestOrder::promote_after(Duration /*median_wait*/) const {
  return std::nullopt;
}

Result<std::unique_ptr<RequestOrder>> make_request_order(std::string_view name,
                                                         const RequestOrderOptions& options) {
  if (!(options.aging > 0 && options.aging <= kMostWeight)) {
    return invalid_argument(
        fmt::format("aging must be above 0 and at most {}, is {}", kMostWeight, options.aging),
        "aging");
  }
  if (!(options.ms_per_priority_level >= 0 && options.ms_per_priority_level <= kMostWeight)) {
    return invalid_argument(fmt::format("ms per priority level must be from 0 to {}, is {}",
                                        kMostWeight, options.ms_per_priority_level),
                            "ms_per_priority_level");
  }
  if (options.promote_after < Duration::zero()) {
    return invalid_argument(fmt::format("promotion threshold must be at least 0 ms, is {}",
                                        to_ms(options.promote_after)),
                            "promote_after");
  }
  for (const NamedOrder& entry : kOrders) {
    if (entry.name == name) return entry.make(options);
  }
  return invalid_argument(
      fmt::format("order must be one of {}, is {}", fmt::join(request_order_names(), ", "), name),
      "order");
}

std::vector<std::string_view> request_order_names() {
  std::vector<std::string_view> names;
  for (const NamedOrder& entry : kOrders)
    names.push_back(entry.name);
  return names;
}

}  // namespace gimbal::policy
