// Late binding: what waits in the dispatcher's own queue, and when it goes where.

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "base/random.h"
#include "cluster/decision_json.h"
#include "cluster/dispatcher.h"
#include "cluster/dispatcher_fixture.h"
#include "cluster/engine_snapshot.h"
#include "cluster/order_log.h"

namespace gimbal::cluster {
namespace {

DispatcherOptions late_options() {
  return {.engines = 2, .late = true};
}

TEST(DispatcherLateTest, LateBindingWaitsForAnEngineThatStartsSoon) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  // More than two steps of 100 rows are ahead on both.
  dispatcher->note_snapshot(EngineId{0}, loaded(2, 300, 9));
  dispatcher->note_snapshot(EngineId{1}, loaded(2, 300, 9));
  EXPECT_EQ(send(*dispatcher, request(3, 90), 1), -1);
  EXPECT_EQ(send(*dispatcher, request(4, 20), 1), -1);
  EXPECT_EQ(dispatcher->queued_groups(), 2U);
  EXPECT_EQ(dispatcher->queued_prefill_tokens(), 110);
  dispatcher->note_snapshot(EngineId{1}, loaded(3, 200, 9));
  // The shortest first, then the longer one.
  const auto first = dispatcher->next(at_ms(2));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->group[0].id, RequestId{4});
  EXPECT_EQ(first->engine, EngineId{1});
  EXPECT_EQ(first->arrival, at_ms(1));
  EXPECT_FALSE(dispatcher->next(at_ms(2)));  // 220 are ahead there now
  EngineSnapshot idle = snapshot(4);
  idle.dispatch_sequence = 9;
  dispatcher->note_snapshot(EngineId{0}, idle);
  EXPECT_EQ(dispatcher->next(at_ms(3))->group[0].id, RequestId{3});
  EXPECT_EQ(dispatcher->queued_prefill_tokens(), 0);
}

sched::Request flexible(std::uint64_t id, int tokens) {
  sched::Request made = request(id, tokens);
  made.request_class = sched::RequestClass::kBestEffort;
  return made;
}

TEST(DispatcherLateTest, LateBindingHoldsUpNoClassForTheOther) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  // Latency-sensitive work is more than two steps ahead: the next of it waits, and best-effort
  // requests go to where none wait yet, for their share.
  EXPECT_EQ(send(*dispatcher, request(3, 90), 1), -1);
  ASSERT_TRUE(dispatcher->submit({flexible(4, 250)}, at_ms(1)).ok());
  const auto first = dispatcher->next(at_ms(1));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->group[0].id, RequestId{4});
  ASSERT_TRUE(dispatcher->submit({flexible(5, 250)}, at_ms(1)).ok());
  const auto second = dispatcher->next(at_ms(1));
  ASSERT_TRUE(second);
  EXPECT_NE(second->engine, first->engine);
  ASSERT_TRUE(dispatcher->submit({flexible(6, 10)}, at_ms(1)).ok());
  EXPECT_FALSE(dispatcher->next(at_ms(1)));  // 250 of its class are ahead on both
  // Nor do best-effort prompts keep latency-sensitive ones away: they run after them.
  for (int i = 0; i < 2; ++i) {
    EngineSnapshot waiting = loaded(2, 0, 9);
    waiting.waiting_prefill_tokens = 900;
    waiting.waiting_best_effort_prefill_tokens = 900;
    dispatcher->note_snapshot(EngineId{i}, waiting);
  }
  const auto third = dispatcher->next(at_ms(2));
  ASSERT_TRUE(third);
  EXPECT_EQ(third->group[0].id, RequestId{3});
  EXPECT_FALSE(dispatcher->next(at_ms(2)));
}

// On both engines.
void leave_four_pages(Dispatcher& dispatcher, std::uint64_t sequence = 2) {
  EngineSnapshot tight = loaded(sequence, 0, 9);
  tight.pages_referenced = 96;
  for (int i = 0; i < 2; ++i)
    dispatcher.note_snapshot(EngineId{i}, tight);
}

TEST(DispatcherLateTest, BestEffortWorkTakesNoPagesThatALatencySensitiveHeadLacks) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 10)), 0);
  leave_four_pages(*dispatcher);
  EXPECT_EQ(send(*dispatcher, request(2, 80), 1), -1);   // five pages, four are free
  EXPECT_EQ(send(*dispatcher, flexible(3, 16), 2), -1);  // would fit
  EXPECT_TRUE(dispatcher->cancel_queued(RequestId{2}));
  EXPECT_EQ(dispatcher->next(at_ms(3))->group[0].id, RequestId{3});
}

TEST(DispatcherLateTest, LateBindingStartsAGroupThatIsLargerThanThePool) {
  auto dispatcher = make(late_options());
  for (int i = 0; i < 2; ++i) {
    EXPECT_GE(send(*dispatcher, request(static_cast<std::uint64_t>(1 + i), 10)), 0);
    EngineSnapshot busy = loaded(2, 10, 9);
    busy.max_waiting_prefill_tokens = 10'000;
    dispatcher->note_snapshot(EngineId{i}, busy);
  }
  std::vector<sched::Request> choices;  // of different prompts: 120 pages, of 100
  for (std::uint64_t id = 10; id < 14; ++id)
    choices.push_back(request(id, 480));
  ASSERT_TRUE(dispatcher->submit(std::move(choices), at_ms(1)).ok());
  EXPECT_TRUE(dispatcher->next(at_ms(1)));  // its first one can start
}

TEST(DispatcherLateTest, LateBindingWaitsForPagesAndNothingOvertakes) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 10)), 0);
  leave_four_pages(*dispatcher);
  sched::Request urgent = request(2, 80);
  urgent.priority = -1;
  EXPECT_EQ(send(*dispatcher, urgent, 1), -1);          // five pages, four are free
  EXPECT_EQ(send(*dispatcher, request(3, 16), 2), -1);  // would fit, and waits behind it
  EXPECT_TRUE(dispatcher->cancel_queued(RequestId{2}));
  EXPECT_FALSE(dispatcher->cancel_queued(RequestId{2}));
  EXPECT_EQ(dispatcher->next(at_ms(3))->group[0].id, RequestId{3});
}

TEST(DispatcherLateTest, LateBindingSendsAtOnceWhereNobodyHasAnything) {
  auto dispatcher = make(late_options());
  EngineSnapshot odd = snapshot(2);
  odd.pages_referenced = 100;  // a prompt that fits nowhere, and nothing that could end
  dispatcher->note_snapshot(EngineId{0}, odd);
  odd.sequence = 3;
  dispatcher->note_snapshot(EngineId{1}, odd);
  EXPECT_GE(send(*dispatcher, request(1, 50)), 0);
}

TEST(DispatcherLateTest, LateQueueIsBoundedByAllEngines) {
  auto dispatcher = make(late_options());
  for (std::uint64_t id = 1; id <= 2; ++id)
    EXPECT_GE(send(*dispatcher, request(id, 300)), 0);
  ASSERT_EQ(send(*dispatcher, request(3, 1300), 1), -1);
  // 600 are unseen at the engines and 1300 wait here.
  EXPECT_EQ(dispatcher->submit({request(4, 101)}, at_ms(1)).error().code,
            ErrorCode::kResourceExhausted);
  EXPECT_TRUE(dispatcher->submit({request(5, 100)}, at_ms(1)).ok());
}

// More than two steps of 100 rows are ahead on both engines.
void fill_both(Dispatcher& dispatcher) {
  for (int i = 0; i < 2; ++i)
    dispatcher.note_snapshot(EngineId{i}, loaded(2, 300, 9));
}

// Room for one step's work on engine 0, now.
void make_room(Dispatcher& dispatcher, std::uint64_t sequence, double now) {
  EngineSnapshot made = loaded(sequence, 190, 9 + sequence);
  made.taken = at_ms(now);
  dispatcher.note_snapshot(EngineId{0}, made);
}

// Keeps what a dispatcher says of its queue.
struct OrderListener {
  std::vector<OrderRecord> records;

  void listen_to(Dispatcher& dispatcher) {
    dispatcher.on_order([this, &dispatcher](TimePoint now, const sched::OrderDecision& decision) {
      const DispatcherOptions& options = dispatcher.options();
      records.push_back({.time = now,
                         .engine = {},
                         .rule = {options.order, options.order_options},
                         .decision = decision});
    });
  }
};

TEST(DispatcherLateTest, PromotesWhoHasWaitedBeyondTheThreshold) {
  DispatcherOptions options = late_options();
  options.order = "sjf-priority-aging";
  options.order_options.promote_after = std::chrono::seconds(5);
  auto dispatcher = make(options);
  OrderListener orders;
  orders.listen_to(*dispatcher);
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  fill_both(*dispatcher);
  EXPECT_EQ(send(*dispatcher, request(3, 90), 1), -1);
  EXPECT_EQ(send(*dispatcher, request(4, 20), 4000), -1);
  make_room(*dispatcher, 3, 5001);
  // The long one came first, more than five seconds ago.
  const auto first = dispatcher->next(at_ms(5002));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->group[0].id, RequestId{3});
  EXPECT_EQ(first->group[0].arrival, at_ms(1));
  make_room(*dispatcher, 4, 5002);
  EXPECT_EQ(dispatcher->next(at_ms(5003))->group[0].id, RequestId{4});
  ASSERT_EQ(orders.records.size(), 5U);
  const OrderRecord& promoted = orders.records.back();
  EXPECT_EQ(promoted.decision.request, RequestId{3});
  EXPECT_EQ(promoted.decision.reason, sched::OrderReason::kPromoted);
  EXPECT_EQ(promoted.decision.waiting_requests, 1);
  for (const OrderRecord& record : orders.records) {
    EXPECT_TRUE(orders_the_same(record));
    const Json json = order_to_json(record);
    EXPECT_TRUE(json.at("engine").is_null());
    EXPECT_EQ(order_to_json(order_from_json(json).value()), json);
  }
}

TEST(DispatcherLateTest, SaysOnceThatAHeadIsHeldAndWhy) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  fill_both(*dispatcher);
  EXPECT_EQ(send(*dispatcher, request(3, 90), 1), -1);
  EXPECT_FALSE(dispatcher->next(at_ms(2)));
  leave_four_pages(*dispatcher, 3);
  EXPECT_FALSE(dispatcher->next(at_ms(3)));
  EXPECT_FALSE(dispatcher->next(at_ms(4)));
  make_room(*dispatcher, 4, 4);
  EXPECT_TRUE(dispatcher->next(at_ms(5)));
  using policy::DispatchReason;
  const auto& records = dispatcher->log().records();
  ASSERT_EQ(records.size(), 5U);
  EXPECT_EQ(records[2].reason, DispatchReason::kHeldForWork);
  EXPECT_EQ(records[3].reason, DispatchReason::kHeldForPages);
  EXPECT_EQ(records[3].engine, -1);
  EXPECT_EQ(records[4].engine, 0);
  EXPECT_EQ(records[4].turn, 2U);  // holds take no turn of the rule
  for (const DecisionRecord& record : records) {
    EXPECT_TRUE(decides_the_same(record));
    const auto read = decision_from_json(decision_to_json(record));
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_TRUE(decides_the_same(*read));
  }
  DecisionRecord other = records[2];
  other.reason = DispatchReason::kHeldForPages;
  EXPECT_FALSE(decides_the_same(other));
  other.engine = 0;
  EXPECT_EQ(decision_from_json(decision_to_json(other)).error().field, "engine");
}

TEST(DispatcherLateTest, KeysAreRetunedWhereAgingIsAuto) {
  DispatcherOptions options = late_options();
  options.order_options.aging_auto = true;
  auto dispatcher = make(options);
  OrderListener orders;
  orders.listen_to(*dispatcher);
  Rng rng(3);
  // One engine's worth of room a second: the queue grows, and long prompts wait much longer than
  // they would in order of arrival, so a rises.
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  fill_both(*dispatcher);
  std::uint64_t id = 3;
  std::uint64_t sequence = 3;
  for (int round = 0; round < 600; ++round) {
    const double now = 1000.0 * round;
    for (int i = 0; i < 2; ++i) {
      const int tokens = rng.below(10) == 0 ? 900 : 10;
      const auto submitted = dispatcher->submit({request(id++, tokens)}, at_ms(now + i));
      static_cast<void>(submitted.ok());  // the queue is bounded
    }
    make_room(*dispatcher, sequence++, now + 499);
    if (auto sent = dispatcher->next(at_ms(now + 500))) dispatcher->note_end(sent->group[0].id);
  }
  int retuned = 0;
  for (const OrderRecord& record : orders.records) {
    EXPECT_TRUE(orders_the_same(record));
    retuned += record.decision.reason == sched::OrderReason::kRetuned ? 1 : 0;
  }
  EXPECT_GT(retuned, 0);
}

TEST(DispatcherLateTest, WhoIsGivenBackWaitsAtItsOldPlace) {
  auto dispatcher = make(late_options());
  OrderListener orders;
  orders.listen_to(*dispatcher);
  ASSERT_TRUE(dispatcher->submit({request(1, 50)}, at_ms(1)).ok());
  auto sent = dispatcher->next(at_ms(1));
  ASSERT_TRUE(sent);
  fill_both(*dispatcher);
  ASSERT_TRUE(dispatcher->give_back(*sent));
  ASSERT_EQ(orders.records.size(), 2U);
  EXPECT_EQ(orders.records[1].decision.reason, sched::OrderReason::kGivenBack);
  EXPECT_EQ(orders.records[1].decision.key, orders.records[0].decision.key);
  EXPECT_TRUE(orders_the_same(orders.records[1]));
}

TEST(DispatcherLateTest, TheBoundIsThatOfEnginesThatAreLeft) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  dispatcher->note_health(EngineId{0}, false, at_ms(1));
  fill_both(*dispatcher);
  ASSERT_EQ(send(*dispatcher, request(3, 900), 1), -1);
  EXPECT_EQ(dispatcher->submit({request(4, 101)}, at_ms(1)).error().code,
            ErrorCode::kResourceExhausted);
}

TEST(DispatcherLateTest, WhatWaitsIsCountedByClass) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  fill_both(*dispatcher);
  ASSERT_TRUE(dispatcher->submit({request(3, 90)}, at_ms(1)).ok());
  ASSERT_TRUE(dispatcher->submit({flexible(4, 20), flexible(5, 500)}, at_ms(1)).ok());
  EngineSnapshot sum;
  add_queued(sum, *dispatcher);
  EXPECT_EQ(sum.waiting_requests, 3);
  EXPECT_EQ(sum.waiting_prefill_tokens, 610);
  EXPECT_EQ(sum.waiting_best_effort_requests, 2);
  EXPECT_EQ(sum.waiting_best_effort_prefill_tokens, 520);
}

TEST(DispatcherLateTest, AGroupIsOfOneClass) {
  auto dispatcher = make(late_options());
  const auto refused = dispatcher->submit({request(1, 10), flexible(2, 10)}, at_ms(0));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().field, "request_class");
  EXPECT_EQ(dispatcher->queued_groups(), 0U);
}

TEST(DispatcherLateTest, CancelledChoicesLeaveTheOthers) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 400)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 400)), 0);
  ASSERT_TRUE(dispatcher->submit({request(3, 10), request(4, 20), request(5, 30)}, at_ms(1)).ok());
  EXPECT_FALSE(dispatcher->next(at_ms(1)));
  dispatcher->note_end(RequestId{4});
  EXPECT_EQ(dispatcher->queued_prefill_tokens(), 40);
  dispatcher->note_end(RequestId{1});
  dispatcher->note_end(RequestId{2});
  const auto sent = dispatcher->next(at_ms(2));
  ASSERT_TRUE(sent);
  ASSERT_EQ(sent->group.size(), 2U);
  EXPECT_EQ(sent->group[1].id, RequestId{5});
}

}  // namespace
}  // namespace gimbal::cluster
