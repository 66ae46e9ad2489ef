// Late binding: what waits in the dispatcher's own queue, and when it goes where.

#include <gtest/gtest.h>

#include "cluster/dispatcher.h"
#include "cluster/dispatcher_fixture.h"

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
void leave_four_pages(Dispatcher& dispatcher) {
  EngineSnapshot tight = loaded(2, 0, 9);
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
