#include "cluster/order_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "base/random.h"

namespace gimbal::cluster {
namespace {

using testing::HasSubstr;

OrderRule rule(std::string_view name = "sjf-aging") {
  return {.name = std::string(name), .options = {.aging = 0.25, .ms_per_priority_level = 500}};
}

// k = 2 ms of job + 0.25 · 40 ms + 500 ms · 3.
sched::OrderDecision decision(std::uint64_t request) {
  return {.request = RequestId{request},
          .job_tokens = 20,
          .cost = {.ms_per_token = 0.1},
          .ordered = {.arrival = TimePoint{} + from_ms(40), .job_ms = 2, .priority = 3},
          .key = {.value = 2 + 10 + 1500},
          .waiting_requests = 4,
          .waiting_tokens = 90};
}

std::vector<std::uint64_t> numbers(const std::vector<OrderRecord>& records) {
  std::vector<std::uint64_t> all;
  for (const OrderRecord& record : records)
    all.push_back(record.number);
  return all;
}

TEST(OrderLog, KeepsTheLast) {
  OrderLog log(3);
  for (const std::uint64_t request : {7, 8, 7, 9}) {
    log.add({.engine = EngineId{static_cast<int>(request)},
             .rule = rule(),
             .decision = decision(request)});
  }
  EXPECT_THAT(numbers(log.last(10)), testing::ElementsAre(2, 3, 4));
  EXPECT_THAT(numbers(log.last(1)), testing::ElementsAre(4));
  EXPECT_THAT(numbers(log.of(RequestId{7})), testing::ElementsAre(3));
  EXPECT_EQ(log.of(RequestId{7})[0].engine, EngineId{7});
  EXPECT_TRUE(log.of(RequestId{1}).empty());
}

TEST(OrderLog, CountsAllByPlaceAndReason) {
  OrderLog log(1);
  const auto add = [&](std::optional<EngineId> engine, sched::OrderReason reason) {
    sched::OrderDecision made = decision(1);
    made.reason = reason;
    log.add({.engine = engine, .rule = rule(), .decision = made});
  };
  EXPECT_TRUE(log.counts().empty());
  add(EngineId{2}, sched::OrderReason::kArrived);
  add(EngineId{2}, sched::OrderReason::kArrived);
  add(EngineId{2}, sched::OrderReason::kRetuned);
  add(std::nullopt, sched::OrderReason::kGivenBack);
  const auto counts = log.counts();
  ASSERT_EQ(counts.size(), 2U);  // engines 0 and 1 have made none
  EXPECT_EQ(counts[0].engine, std::nullopt);
  EXPECT_THAT(counts[0].reasons, testing::ElementsAre(0, 0, 0, 1, 0, 0));
  EXPECT_EQ(counts[1].engine, EngineId{2});
  EXPECT_THAT(counts[1].reasons, testing::ElementsAre(2, 0, 0, 0, 0, 1));
}

TEST(OrderLog, ARecordIsDecidedAgainFromItsJson) {
  const OrderRecord record{
      .number = 1, .engine = EngineId{2}, .rule = rule(), .decision = decision(5)};
  EXPECT_TRUE(orders_the_same(record));
  const Json json = order_to_json(record);
  const auto read = order_from_json(json);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(order_to_json(*read), json);
  EXPECT_TRUE(orders_the_same(*read));
  OrderRecord other = record;
  other.decision.key.value += 0.5;
  EXPECT_FALSE(orders_the_same(other));
  other = record;
  other.decision.ordered.job_ms = 2.5;  // not what the cost says
  EXPECT_FALSE(orders_the_same(other));
}

TEST(OrderLog, APromotionIsDecidedAgainToo) {
  OrderRecord record{.rule = rule("sjf-priority-aging"), .decision = decision(5)};
  record.rule.options.promote_after_auto = true;
  record.decision.key = {.value = 2 + 1500};
  EXPECT_TRUE(orders_the_same(record));
  record.decision.reason = sched::OrderReason::kPromoted;
  record.decision.median_wait = from_ms(10);
  record.decision.waited = from_ms(21);  // above 2 × the median
  EXPECT_TRUE(orders_the_same(record));
  const Json json = order_to_json(record);
  EXPECT_EQ(json["decision"]["reason"], "promoted");
  const auto read = order_from_json(json);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(order_to_json(*read), json);
  EXPECT_TRUE(orders_the_same(*read));
  record.decision.waited = from_ms(20);
  EXPECT_FALSE(orders_the_same(record));
  record.rule = rule("sjf-aging");  // which promotes nobody
  EXPECT_FALSE(orders_the_same(record));
}

TEST(OrderLog, RandomDecisionsAreDecidedAgain) {
  Rng rng(3);
  const auto names = policy::request_order_names();
  for (int trial = 0; trial < 10'000; ++trial) {
    OrderRecord record{.rule = rule(names[rng.below(names.size())])};
    sched::OrderDecision& made = record.decision;
    made.job_tokens = static_cast<int>(rng.below(100'000));
    made.cost = {.ms_per_token = rng.uniform(), .ms_per_square_token = 1e-6 * rng.uniform()};
    made.ordered = {
        .arrival = TimePoint{} + Duration{static_cast<std::int64_t>(rng.below(1'000'000'000'000))},
        .job_ms = made.cost.ms(made.job_tokens),
        .priority = static_cast<int>(rng.between(-9, 9))};
    if (rng.below(2) == 0) made.ordered.aging = 0.01 + rng.uniform();
    made.key = policy::make_request_order(record.rule.name, record.rule.options)
                   .value()
                   ->key(made.ordered);
    const auto read = order_from_json(parse_json(order_to_json(record).dump()).value());
    ASSERT_TRUE(read.ok()) << read.error().message;
    ASSERT_TRUE(orders_the_same(*read)) << order_to_json(*read);
  }
}

TEST(OrderLog, WrongRecordsAreErrorsThatNameTheField) {
  const Json good = order_to_json({.rule = rule(), .decision = decision(1)});
  Json wrong = good;
  wrong["decision"]["job_tokens"] = "many";
  EXPECT_THAT(order_from_json(wrong).error().message, HasSubstr("job_tokens"));
  wrong = good;
  wrong["order"]["name"] = "lifo";
  EXPECT_THAT(order_from_json(wrong).error().message, HasSubstr("lifo"));
  wrong = good;
  wrong["order"]["options"]["aging"] = -1;
  EXPECT_THAT(order_from_json(wrong).error().message, HasSubstr("aging"));
  for (const Json& reason : {Json("lost"), Json(2), Json(nullptr), Json::array()}) {
    wrong = good;
    wrong["decision"]["reason"] = reason;
    EXPECT_THAT(order_from_json(wrong).error().message, HasSubstr("decision.reason")) << reason;
  }
  EXPECT_FALSE(order_from_json(Json::array()).ok());
}

}  // namespace
}  // namespace gimbal::cluster
