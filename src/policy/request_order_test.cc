#include "policy/request_order.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "base/random.h"

namespace gimbal::policy {
namespace {

std::unique_ptr<RequestOrder> order_of(std::string_view name,
                                       const RequestOrderOptions& options = {}) {
  auto made = make_request_order(name, options);
  EXPECT_TRUE(made.ok());
  return std::move(made).value();
}

OrderedRequest request(double arrival_ms, double job_ms, int priority = 0) {
  return {TimePoint{from_ms(arrival_ms)}, job_ms, priority};
}

TEST(RequestOrderTest, FcfsGoesByPriorityThenArrival) {
  const auto order = order_of("fcfs");
  EXPECT_LT(order->key(request(1, 900)), order->key(request(2, 1)));
  EXPECT_LT(order->key(request(9, 900, -1)), order->key(request(1, 1, 0)));
  EXPECT_FALSE(order->promote_after(Duration{0}));
}

TEST(RequestOrderTest, SjfGoesByPriorityThenJobSize) {
  const auto order = order_of("sjf");
  EXPECT_LT(order->key(request(100, 5)), order->key(request(1, 6)));
  EXPECT_EQ(order->key(request(100, 5)), order->key(request(1, 5)));
  EXPECT_LT(order->key(request(100, 500, 1)), order->key(request(1, 5, 2)));
}

TEST(RequestOrderTest, SjfPriorityAgingAddsPriorityToJobSize) {
  const auto order = order_of("sjf-priority-aging", {.ms_per_priority_level = 10});
  EXPECT_DOUBLE_EQ(order->key(request(77, 5, 3)).value, 35);
  EXPECT_LT(order->key(request(1, 25, 0)), order->key(request(1, 6, 2)));
  EXPECT_LT(order->key(request(1, 6, 1)), order->key(request(1, 25, 0)));
}

TEST(RequestOrderTest, SjfPriorityAgingPromotesAfterItsThreshold) {
  const auto fixed = order_of("sjf-priority-aging");
  EXPECT_EQ(fixed->promote_after(from_ms(7)), std::chrono::seconds(5));
  const auto automatic = order_of("sjf-priority-aging", {.promote_after_auto = true});
  EXPECT_EQ(automatic->promote_after(from_ms(7)), from_ms(14));
}

TEST(RequestOrderTest, SjfAgingWeighsJobArrivalAndPriority) {
  const auto order = order_of("sjf-aging");
  EXPECT_DOUBLE_EQ(order->key(request(200, 5, 2)).value, 5 + 0.1 * 200 + 1000 * 2);
  // One ms of prefill outweighs ten of waiting.
  EXPECT_LT(order->key(request(9, 0)), order->key(request(0, 1)));
  EXPECT_LT(order->key(request(0, 1)), order->key(request(11, 0)));
}

TEST(RequestOrderTest, SjfAgingIsOvertakenOnlyWithinItsBound) {
  Rng rng(5);
  for (int round = 0; round < 20'000; ++round) {
    RequestOrderOptions options;
    options.aging = 0.01 + rng.uniform();
    options.ms_per_priority_level = 100 * rng.uniform();
    const auto order = order_of("sjf-aging", options);
    const auto random = [&] {
      return request(1000 * rng.uniform(), 100 * rng.uniform(),
                     static_cast<int>(rng.between(-2, 2)));
    };
    const OrderedRequest first = random();
    const OrderedRequest later = random();
    if (later.arrival < first.arrival || order->key(later) >= order->key(first)) continue;
    const double bound =
        (first.job_ms + options.ms_per_priority_level * (first.priority - later.priority)) /
        options.aging;
    EXPECT_LE(to_ms(later.arrival - first.arrival), bound + 1e-6);
  }
}

TEST(RequestOrderTest, RefusesUnknownNamesAndOptionsOutOfRange) {
  const auto unknown = make_request_order("lifo", {});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().field, "order");
  EXPECT_NE(unknown.error().message.find("sjf-aging, is lifo"), std::string::npos);
  EXPECT_EQ(make_request_order("fcfs", {.aging = 0}).error().field, "aging");
  EXPECT_EQ(make_request_order("fcfs", {.aging = 1e300}).error().field, "aging");
  EXPECT_EQ(make_request_order("fcfs", {.ms_per_priority_level = 1e300}).error().field,
            "ms_per_priority_level");
  EXPECT_EQ(
      make_request_order("fcfs", {.aging = std::numeric_limits<double>::quiet_NaN()}).error().field,
      "aging");
  EXPECT_EQ(make_request_order("fcfs", {.ms_per_priority_level = -1}).error().field,
            "ms_per_priority_level");
  EXPECT_EQ(make_request_order("fcfs", {.promote_after = Duration{-1}}).error().field,
            "promote_after");
  for (const std::string_view name : request_order_names()) {
    EXPECT_TRUE(make_request_order(name, {}).ok());
  }
}

}  // namespace
}  // namespace gimbal::policy
