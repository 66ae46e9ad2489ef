#include "cluster/dispatcher.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "base/random.h"
#include "cluster/decision_json.h"
#include "cluster/dispatcher_fixture.h"

namespace gimbal::cluster {
namespace {

using policy::DispatchReason;

TEST(DispatcherTest, LedgerCountsWhatSnapshotsCannotContain) {
  auto dispatcher = make({.engines = 2, .rule = "least-prefill"});
  ASSERT_TRUE(dispatcher->submit({request(1, 50)}, at_ms(1)).ok());
  const auto first = dispatcher->next(at_ms(1));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->group[0].dispatch_sequence, 1U);
  EXPECT_FALSE(dispatcher->next(at_ms(1)));
  EXPECT_EQ(dispatcher->engine_of(RequestId{1}), first->engine);
  // Nothing was published since, and yet the next one goes elsewhere.
  const int second = send(*dispatcher, request(2, 40), 2);
  EXPECT_EQ(second, 1 - first->engine.value());
  EXPECT_EQ(send(*dispatcher, request(3, 10), 3), second);
  // A snapshot that contains them takes over.
  EngineSnapshot newer = snapshot(2);
  newer.dispatch_sequence = 3;
  newer.waiting_requests = 2;
  newer.waiting_prefill_tokens = 200;
  dispatcher->note_snapshot(EngineId{second}, newer);
  EXPECT_EQ(dispatcher->ledger(EngineId{second}).counts().unseen_requests, 0);
  EXPECT_EQ(dispatcher->ledger(EngineId{second}).counts().requests, 2);
  EXPECT_EQ(send(*dispatcher, request(4, 10), 4), first->engine.value());
  dispatcher->note_end(RequestId{2});
  EXPECT_FALSE(dispatcher->engine_of(RequestId{2}));
}

TEST(DispatcherTest, UsersStayWithV1) {
  auto dispatcher = make({.engines = 3, .rule = "gimbal-v1"});
  for (int i = 0; i < 3; ++i) {
    EngineSnapshot large = snapshot(2);
    large.pages_total = 1000;  // the prompts make little difference there
    dispatcher->note_snapshot(EngineId{i}, large);
  }
  const int home = send(*dispatcher, request(1, 500, 42), 1);
  EXPECT_EQ(send(*dispatcher, request(2, 10, 42), 2), home);
  EXPECT_EQ(dispatcher->log().records().back().reason, DispatchReason::kUser);
  // Unknown users are told apart by the beginning of their prompts.
  sched::Request same = request(3, 300);
  const int where = send(*dispatcher, same, 3);
  EXPECT_NE(where, home);  // by load
  same.id = RequestId{4};
  same.prompt.back() += 1;  // beyond 256 tokens
  EXPECT_EQ(send(*dispatcher, same, 4), where);
}

sched::Request pinned(std::uint64_t id, int tokens, int engine) {
  sched::Request made = request(id, tokens);
  made.pinned_engine = engine;
  return made;
}

TEST(DispatcherTest, APinnedRequestGoesToItsEngineWhateverTheRule) {
  for (const std::string_view rule : policy::dispatch_names()) {
    auto dispatcher = make({.engines = 3, .rule = std::string(rule)});
    dispatcher->note_snapshot(EngineId{2}, loaded(2, 900, 0));  // the busiest
    for (std::uint64_t id = 1; id <= 4; ++id)
      EXPECT_EQ(send(*dispatcher, pinned(id, 10, 2)), 2) << rule;
    const DecisionRecord& record = dispatcher->log().records().back();
    EXPECT_EQ(record.reason, DispatchReason::kOnly) << rule;
    EXPECT_FALSE(record.engines[0].room);
    EXPECT_TRUE(record.engines[2].room);
  }
}

TEST(DispatcherTest, APinnedRequestGoesNowhereElse) {
  auto dispatcher = make({.engines = 2, .rule = "round-robin"});
  const auto wrong = dispatcher->submit({pinned(9, 10, 2)}, at_ms(0));
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(wrong.error().message,
            "a request must be pinned to one of the engines 0 to 1, is to 2");
  // Its engine did not take it.
  ASSERT_TRUE(dispatcher->submit({pinned(1, 10, 1)}, at_ms(0)).ok());
  auto sent = dispatcher->next(at_ms(0));
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->engine, EngineId{1});
  EXPECT_FALSE(dispatcher->give_back(*sent));
  // It is full, and the other one is not.
  EngineSnapshot full = snapshot(2);
  full.waiting_prefill_tokens = 950;
  full.waiting_requests = 1;
  dispatcher->note_snapshot(EngineId{1}, full);
  const auto refused = dispatcher->submit({pinned(2, 60, 1)}, at_ms(1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(refused.error().message.find("at most 1000 may"), std::string::npos);
  EXPECT_EQ(send(*dispatcher, pinned(3, 60, 0), 1), 0);
  // It has failed: the probe of it may have been wrong, and who is pinned to it finds out.
  dispatcher->note_health(EngineId{1}, false, at_ms(2));
  EXPECT_EQ(send(*dispatcher, pinned(4, 10, 1), 2), 1);
  EXPECT_EQ(dispatcher->log().records().back().reason, DispatchReason::kFailOpen);
}

TEST(DispatcherTest, APinnedRequestWaitsForItsEngineWithLateBinding) {
  auto dispatcher = make({.engines = 2, .late = true});
  EXPECT_EQ(send(*dispatcher, pinned(1, 500, 1)), 1);
  EXPECT_EQ(send(*dispatcher, pinned(2, 10, 1)), -1);  // 500 tokens are more than two steps
  dispatcher->note_end(RequestId{1});
  const auto sent = dispatcher->next(at_ms(1));
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->engine, EngineId{1});
}

TEST(DispatcherTest, ARequestPinnedToAnEngineThatIsGoneHoldsNobodyUp) {
  auto dispatcher = make({.engines = 2, .late = true});
  EXPECT_EQ(send(*dispatcher, request(1, 500)), 0);  // so not all engines are empty
  dispatcher->note_health(EngineId{1}, false, at_ms(1));
  EXPECT_EQ(send(*dispatcher, pinned(2, 10, 1), 1), 1);  // it fails there
  dispatcher->note_end(RequestId{1});
  EXPECT_EQ(send(*dispatcher, request(3, 10), 2), 0);
}

TEST(DispatcherTest, PrefixHitsDrawRequests) {
  auto dispatcher = make({.engines = 2});
  sched::Request each = request(1, 65);
  std::vector<kv::PrefixEvent> events;
  std::uint64_t parent = kv::root_hash(hash_combine(0, 0));
  for (std::size_t page = 0; page < 4; ++page) {
    const auto hash = kv::page_hash(parent, std::span(each.prompt).subspan(16 * page, 16));
    events.push_back({.hash = hash, .parent = parent});
    parent = hash;
  }
  dispatcher->note_prefix(EngineId{1}, events);
  each.prompt.insert(each.prompt.end(), 200, 7);
  EXPECT_EQ(send(*dispatcher, each), 1);
  const DecisionRecord& record = dispatcher->log().records().back();
  EXPECT_EQ(record.engines[1].hit_tokens, 64);
  EXPECT_EQ(record.engines[1].cached_pages, 4);
  EXPECT_EQ(record.reason, DispatchReason::kBest);
  EXPECT_EQ(dispatcher->ledger(EngineId{1}).counts().prefill_tokens, 201);
}

TEST(DispatcherTest, ChoicesOfAPromptCountOnceAndGoTogether) {
  auto dispatcher = make({.engines = 2});
  sched::Request one = request(1, 40);
  sched::Request other = one;
  other.id = RequestId{2};
  ASSERT_TRUE(dispatcher->submit({one, other}, at_ms(0)).ok());
  const auto sent = dispatcher->next(at_ms(0));
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->group.size(), 2U);
  // 40 and, after two shared pages of 16, 8.
  EXPECT_EQ(dispatcher->ledger(sent->engine).counts().prefill_tokens, 48);
  EXPECT_EQ(dispatcher->log().records().back().request.prompt_tokens, 48);
}

TEST(DispatcherTest, EarlyBindingRefusesWhenNoEngineHasRoom) {
  auto dispatcher = make({.engines = 2, .rule = "round-robin"});
  EngineSnapshot full = snapshot(2);
  full.waiting_prefill_tokens = 950;
  full.waiting_requests = 1;
  dispatcher->note_snapshot(EngineId{0}, full);
  // Round-robin's turn is engine 0, which has no room for 60.
  EXPECT_EQ(send(*dispatcher, request(1, 60)), 1);
  full.sequence = 3;
  dispatcher->note_snapshot(EngineId{1}, full);
  const auto refused = dispatcher->submit({request(2, 60)}, at_ms(1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(dispatcher->next(at_ms(1)));
  EXPECT_TRUE(dispatcher->submit({request(3, 30)}, at_ms(1)).ok());
}

TEST(DispatcherTest, WhatAnEngineDoesNotTakeGoesToAnother) {
  auto dispatcher = make({.engines = 3, .rule = "round-robin"});
  ASSERT_TRUE(dispatcher->submit({request(1, 10)}, at_ms(0)).ok());
  std::vector<int> tried;
  std::optional<Dispatched> sent;
  while ((sent = dispatcher->next(at_ms(0)))) {
    tried.push_back(sent->engine.value());
    dispatcher->note_health(sent->engine, false, at_ms(0));
    if (!dispatcher->give_back(*sent)) break;
  }
  EXPECT_EQ(tried, (std::vector{0, 1, 2}));
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->group.size(), 1U);  // still the caller's
  EXPECT_EQ(dispatcher->log().of(RequestId{1}).size(), 3U);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(dispatcher->ledger(EngineId{i}).counts(), policy::LedgerCounts{});
  // All are excluded now: it fails open.
  EXPECT_GE(send(*dispatcher, request(2, 10), 1), 0);
  EXPECT_EQ(dispatcher->log().records().back().reason, DispatchReason::kFailOpen);
  // And exclusions end.
  send(*dispatcher, request(3, 10), 60'000);
  EXPECT_EQ(dispatcher->log().records().back().reason, DispatchReason::kTurn);
}

TEST(DispatcherTest, NoEngineIsTriedTwiceWhereTheOthersAreFull) {
  for (const bool fails : {true, false}) {
    auto dispatcher = make({.engines = 2});
    const int full = send(*dispatcher, request(1, 50), 0);
    EngineSnapshot waits = snapshot(2);
    waits.dispatch_sequence = 1;
    waits.waiting_requests = 1;
    waits.waiting_prefill_tokens = 990;
    dispatcher->note_snapshot(EngineId{full}, waits);
    ASSERT_TRUE(dispatcher->submit({request(2, 50)}, at_ms(2)).ok());
    auto first = dispatcher->next(at_ms(2));
    ASSERT_TRUE(first);
    EXPECT_EQ(first->engine.value(), 1 - full);
    if (fails) dispatcher->note_health(EngineId{1 - full}, false, at_ms(2));
    ASSERT_TRUE(dispatcher->give_back(*first));
    auto second = dispatcher->next(at_ms(2));
    ASSERT_TRUE(second);
    EXPECT_EQ(second->engine.value(), full);  // it may say itself that it is full
    EXPECT_FALSE(dispatcher->give_back(*second));
  }
}

TEST(DispatcherTest, VllmCountsAreOldButForItsOwnRequests) {
  auto dispatcher = make({.engines = 2, .rule = "vllm"});
  EXPECT_EQ(send(*dispatcher, request(1, 10), 0), 0);
  EngineSnapshot busy = snapshot(2);
  busy.dispatch_sequence = 9;
  busy.waiting_requests = 5;
  busy.running_requests = 1;
  dispatcher->note_snapshot(EngineId{1}, busy);
  EXPECT_EQ(send(*dispatcher, request(2, 10), 99), 1);  // counts of 0 ms
  EXPECT_EQ(send(*dispatcher, request(3, 10), 100), 0);
}

TEST(DispatcherTest, AnotherTryIsNoReturnOfTheUser) {
  auto dispatcher = make({.engines = 3, .rule = "gimbal"});
  ASSERT_TRUE(dispatcher->submit({request(1, 50, 7)}, at_ms(1)).ok());
  auto sent = dispatcher->next(at_ms(1));
  ASSERT_TRUE(sent);
  ASSERT_TRUE(dispatcher->give_back(*sent));
  ASSERT_TRUE(dispatcher->next(at_ms(5)));
  const DecisionRecord again = dispatcher->log().records().back();
  EXPECT_EQ(again.request.return_probability, 0.5);
  EXPECT_EQ(again.request.mean_return_ms, std::nullopt);
  // The next request is one.
  ASSERT_TRUE(dispatcher->submit({request(2, 50, 7)}, at_ms(101)).ok());
  ASSERT_TRUE(dispatcher->next(at_ms(102)));
  EXPECT_EQ(dispatcher->log().records().back().request.mean_return_ms, 100);
}

TEST(DispatcherTest, TheOrderOfAnEnginesQueueSaysWhatIsAhead) {
  auto dispatcher = make({.engines = 2});
  EngineSnapshot queued = snapshot(2);
  queued.queues_profiled = true;
  queued.prefill_cost = {.ms_per_token = 1};
  queued.waiting_prefill_tokens = 190;
  queued.waiting_best_effort_prefill_tokens = 70;
  // They arrived at 0: with 0.1 a ms of waiting, keys of 30 and 90 ms.
  queued.queue.add({{0, 30}, 30, 1});
  queued.queue.add({{0, 90}, 120, 2});
  queued.best_effort_queue.add({{0, 70}, 70, 1});
  dispatcher->note_snapshot(EngineId{0}, queued);
  const auto ahead = [&] {
    return dispatcher->log().records().back().engines[0].waiting_ahead_tokens;
  };
  send(*dispatcher, request(1, 60), 100);  // key 70
  EXPECT_EQ(ahead(), 30);
  send(*dispatcher, request(2, 60), 400);  // key 100
  EXPECT_EQ(ahead(), 120);
  sched::Request flexible = request(3, 60);
  flexible.request_class = sched::RequestClass::kBestEffort;
  send(*dispatcher, flexible, 99);
  EXPECT_EQ(ahead(), 120);
  flexible.id = RequestId{4};
  send(*dispatcher, flexible, 101);
  EXPECT_EQ(ahead(), 190);
  EXPECT_FALSE(dispatcher->log().records().back().engines[1].waiting_ahead_tokens);
}

TEST(DispatcherTest, ChoicesThatComeBackOneByOneAllGoElsewhere) {
  auto dispatcher = make({.engines = 2, .rule = "round-robin"});
  ASSERT_TRUE(dispatcher->submit({request(1, 10), request(2, 10)}, at_ms(0)).ok());
  auto sent = dispatcher->next(at_ms(0));
  ASSERT_TRUE(sent);
  for (sched::Request& each : sent->group) {
    Dispatched one{.engine = sent->engine, .group = {each}, .tried = sent->tried};
    ASSERT_TRUE(dispatcher->give_back(one));
  }
  for (const std::uint64_t id : {1, 2}) {
    const auto again = dispatcher->next(at_ms(1));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->group[0].id, RequestId{id});
    EXPECT_NE(again->engine, sent->engine);
  }
}

TEST(DispatcherTest, AnEngineThatIsGoneHasNoRoomWhileAnotherIsThere) {
  auto dispatcher = make({.engines = 2});
  dispatcher->note_health(EngineId{0}, false, at_ms(0));
  EngineSnapshot full = loaded(2, 100, 9);
  full.waiting_requests = 9;
  full.waiting_prefill_tokens = 990;
  dispatcher->note_snapshot(EngineId{1}, full);
  // The bound is that of the one that is left, and who is let in goes there.
  EXPECT_EQ(dispatcher->submit({request(1, 50)}, at_ms(1)).error().code,
            ErrorCode::kResourceExhausted);
  EXPECT_EQ(send(*dispatcher, request(2, 5), 1), 1);
  // Where it is the only one, it may be tried.
  sched::Request pinned = request(3, 50);
  pinned.pinned_engine = 0;
  EXPECT_EQ(send(*dispatcher, pinned, 1), 0);
}

TEST(DispatcherTest, FeedbackCanBeWithheld) {
  for (const bool feedback : {true, false}) {
    auto dispatcher = make({.engines = 2, .feedback = feedback});
    dispatcher->note_expert_pressure(EngineId{0}, 1.5);
    send(*dispatcher, request(1, 10));
    const auto& engines = dispatcher->log().records().back().engines;
    EXPECT_EQ(engines[0].expert_pressure, feedback ? std::optional(1.5) : std::nullopt);
    EXPECT_FALSE(engines[1].expert_pressure);
  }
}

TEST(DispatcherTest, RefusesOptionsOutOfRange) {
  EXPECT_EQ(Dispatcher::make({.engines = 0}).error().field, "engines");
  EXPECT_EQ(Dispatcher::make({.rule = "none"}).error().field, "dispatch");
  EXPECT_EQ(Dispatcher::make({.late_steps = -1}).error().field, "late_steps");
  EXPECT_EQ(Dispatcher::make({.order = "none"}).error().field, "order");
  EXPECT_EQ(Dispatcher::make({.engines = 2, .groups = {1}}).error().field, "groups");
  EXPECT_EQ(Dispatcher::make({.page_tokens = 0}).error().field, "page_tokens");
  EXPECT_EQ(Dispatcher::make({.users = {.most_users = 0}}).error().field, "most_users");
}

// Engine 0 has computed many prompts; engine 1 a few, which made it look ten times as slow.
TEST(Dispatcher, EnginesThatAreAlikeAreJudgedByTheMostExperienced) {
  for (const bool alike : {false, true}) {
    const auto dispatcher = make({.engines = 2, .engines_alike = alike});
    EngineSnapshot busy = loaded(2, 300, 0);
    busy.prefill_rows = 10'000;
    EngineSnapshot idle = snapshot(2);
    idle.prefill_rows = 100;
    idle.step_times = policy::StepTimeCoefficients{.attention = {1, 1, 0, 0, 0}};
    dispatcher->note_snapshot(EngineId{0}, busy);
    dispatcher->note_snapshot(EngineId{1}, idle);
    ASSERT_TRUE(dispatcher->submit({request(1, 200)}, at_ms(1)).ok());
    const auto sent = dispatcher->next(at_ms(1));
    ASSERT_TRUE(sent.has_value());
    // 500 tokens at 0.1 ms are less than 200 at 1 ms, but more than 200 at 0.1 ms.
    EXPECT_EQ(sent->engine, EngineId{alike ? 1 : 0});
    EXPECT_DOUBLE_EQ(dispatcher->view(EngineId{1}, at_ms(1)).costs->prefill_token_ms(),
                     alike ? 0.1 : 1);
  }
}

// Views are kept from decision to decision; view() makes one anew.
TEST(DispatcherTest, AViewThatIsKeptIsAsOneMadeAnew) {
  constexpr int kEngines = 3;
  Rng rng(3);
  auto dispatcher = make({.engines = kEngines, .rule = "gimbal-v2", .groups = {0, 0, 1}});
  double now = 0;
  int shown = 0;
  dispatcher->on_decision([&](const DecisionRecord& record) {
    DecisionRecord anew = record;
    for (int i = 0; i < kEngines; ++i) {
      policy::EngineView& view = anew.engines[static_cast<std::size_t>(i)];
      const policy::EngineView kept = view;
      view = dispatcher->view(EngineId{i}, at_ms(now));
      view.room = kept.room;  // these three are of the request
      view.hit_tokens = kept.hit_tokens;
      view.waiting_ahead_tokens = kept.waiting_ahead_tokens;
    }
    EXPECT_EQ(decision_to_json(anew).dump(), decision_to_json(record).dump());
    ++shown;
  });
  std::uint64_t sequence = 1;
  for (std::uint64_t id = 1; id <= 200; ++id) {
    now += static_cast<double>(rng.below(300));
    const EngineId engine{static_cast<EngineId::rep>(rng.below(kEngines))};
    EngineSnapshot next = loaded(++sequence, static_cast<double>(rng.below(500)), id - 1);
    next.taken = at_ms(now - static_cast<double>(rng.below(50)));
    next.finished_requests = id;
    next.finished_output_tokens = id * (20 + rng.below(30));
    next.pages_freed = id * 7;
    if (rng.below(3) == 0) next.step_times.reset();
    if (rng.below(2) == 0) {
      next.running_step = policy::StepShape{.prefill = 100};
      next.step_started = next.taken;
    }
    if (rng.below(8) == 0) next = snapshot(sequence);  // idle
    dispatcher->note_snapshot(engine, next);
    if (rng.below(4) == 0) dispatcher->note_expert_pressure(engine, 1.0 + rng.uniform());
    if (rng.below(6) == 0) dispatcher->note_health(engine, rng.below(2) == 0, at_ms(now));
    send(*dispatcher, request(id, 30), now);
    dispatcher->note_end(RequestId{id});
  }
  EXPECT_EQ(shown, 200);
}

}  // namespace
}  // namespace gimbal::cluster
