#include "cluster/dispatcher.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/hash.h"
#include "base/random.h"
#include "cluster/decision_json.h"
#include "cluster/dispatch_recorder.h"

namespace gimbal::cluster {
namespace {

using policy::DispatchReason;

TimePoint at_ms(double ms) {
  return TimePoint{from_ms(ms)};
}

sched::Request request(std::uint64_t id, int tokens, std::uint64_t user = 0) {
  sched::Request made{.id = RequestId{id}};
  for (int i = 0; i < tokens; ++i)
    made.prompt.push_back(static_cast<TokenId>((id * 131 + static_cast<std::uint64_t>(i)) % 1000));
  made.user_key = user;
  return made;
}

// Fitted: 1 ms + 0.1 a row, 100 rows a step, 100 pages.
EngineSnapshot snapshot(std::uint64_t sequence) {
  EngineSnapshot made{.sequence = sequence, .pages_total = 100};
  made.step_times = policy::StepTimeCoefficients{.attention = {1, 0.1, 0, 0, 0}};
  made.budget = {.ceiling = 100};
  made.max_waiting_prefill_tokens = 1000;
  return made;
}

std::unique_ptr<Dispatcher> make(DispatcherOptions options, DispatchRecorder* recorder = nullptr) {
  auto made = Dispatcher::make(options, recorder);
  EXPECT_TRUE(made.ok());
  for (int i = 0; i < options.engines; ++i)
    (*made)->note_snapshot(EngineId{i}, snapshot(1));
  return std::move(made).value();
}

// Submits one request and says where it went; -1: it waits.
int send(Dispatcher& dispatcher, sched::Request each, double now = 0) {
  const auto submitted = dispatcher.submit({std::move(each)}, at_ms(now));
  EXPECT_TRUE(submitted.ok());
  const auto sent = dispatcher.next(at_ms(now));
  return sent ? sent->engine.value() : -1;
}

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

DispatcherOptions late_options() {
  return {.engines = 2, .late = true};
}

EngineSnapshot loaded(std::uint64_t sequence, double running_tokens, std::uint64_t seen) {
  EngineSnapshot made = snapshot(sequence);
  made.running_requests = 1;
  made.running_prefill_tokens = static_cast<std::int64_t>(running_tokens);
  made.dispatch_sequence = seen;
  return made;
}

TEST(DispatcherTest, LateBindingWaitsForAnEngineThatStartsSoon) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 300)), 0);
  EXPECT_GE(send(*dispatcher, request(2, 300)), 0);
  // More than two steps of 100 rows are ahead on both.
  dispatcher->note_snapshot(EngineId{0}, loaded(2, 300, 9));
  dispatcher->note_snapshot(EngineId{1}, loaded(2, 300, 9));
  EXPECT_EQ(send(*dispatcher, request(3, 90), 1), -1);
  EXPECT_EQ(send(*dispatcher, request(4, 20), 1), -1);
  sched::Request flexible = request(5, 1);
  flexible.request_class = sched::RequestClass::kBestEffort;
  EXPECT_EQ(send(*dispatcher, flexible, 1), -1);
  EXPECT_EQ(dispatcher->queued_groups(), 3U);
  EXPECT_EQ(dispatcher->queued_prefill_tokens(), 111);
  dispatcher->note_snapshot(EngineId{1}, loaded(3, 200, 9));
  // The shortest first, then the longer one; the best-effort one last.
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
  EXPECT_EQ(dispatcher->next(at_ms(3))->group[0].id, RequestId{5});
  EXPECT_EQ(dispatcher->queued_prefill_tokens(), 0);
}

TEST(DispatcherTest, LateBindingWaitsForPagesAndNothingOvertakes) {
  auto dispatcher = make(late_options());
  EXPECT_GE(send(*dispatcher, request(1, 10)), 0);
  for (int i = 0; i < 2; ++i) {
    EngineSnapshot tight = loaded(2, 0, 9);
    tight.pages_referenced = 96;
    dispatcher->note_snapshot(EngineId{i}, tight);
  }
  sched::Request urgent = request(2, 80);
  urgent.priority = -1;
  EXPECT_EQ(send(*dispatcher, urgent, 1), -1);          // five pages, four are free
  EXPECT_EQ(send(*dispatcher, request(3, 16), 2), -1);  // would fit, and waits behind it
  EXPECT_TRUE(dispatcher->cancel_queued(RequestId{2}));
  EXPECT_FALSE(dispatcher->cancel_queued(RequestId{2}));
  EXPECT_EQ(dispatcher->next(at_ms(3))->group[0].id, RequestId{3});
}

TEST(DispatcherTest, LateBindingSendsAtOnceWhereNobodyHasAnything) {
  auto dispatcher = make(late_options());
  EngineSnapshot odd = snapshot(2);
  odd.pages_referenced = 100;  // a prompt that fits nowhere, and nothing that could end
  dispatcher->note_snapshot(EngineId{0}, odd);
  odd.sequence = 3;
  dispatcher->note_snapshot(EngineId{1}, odd);
  EXPECT_GE(send(*dispatcher, request(1, 50)), 0);
}

TEST(DispatcherTest, LateQueueIsBoundedByAllEngines) {
  auto dispatcher = make(late_options());
  for (std::uint64_t id = 1; id <= 2; ++id)
    EXPECT_GE(send(*dispatcher, request(id, 300)), 0);
  ASSERT_EQ(send(*dispatcher, request(3, 1300), 1), -1);
  // 600 are unseen at the engines and 1300 wait here.
  EXPECT_EQ(dispatcher->submit({request(4, 101)}, at_ms(1)).error().code,
            ErrorCode::kResourceExhausted);
  EXPECT_TRUE(dispatcher->submit({request(5, 100)}, at_ms(1)).ok());
}

TEST(DispatcherTest, CancelledChoicesLeaveTheOthers) {
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

// A random life of three engines. Every request ends once. Returns the record.
std::string random_life(std::uint64_t seed, bool late, std::string_view rule) {
  std::ostringstream out;
  DispatchRecorder recorder(out);
  Rng rng(seed);
  auto dispatcher =
      make({.engines = 3, .rule = std::string(rule), .late = late, .seed = seed}, &recorder);
  std::vector<std::uint64_t> sequences(3, 1);
  std::vector<RequestId> live;
  double now = 0;
  std::uint64_t ids = 0;
  for (int step = 0; step < 300; ++step) {
    now += 20 * rng.uniform();
    const EngineId engine{static_cast<EngineId::rep>(rng.below(3))};
    const auto index = static_cast<std::size_t>(engine.value());
    switch (rng.below(6)) {
      case 0: {
        EngineSnapshot said =
            loaded(++sequences[index], static_cast<double>(rng.below(400)), rng.below(ids + 1));
        said.taken = at_ms(now - 5 * rng.uniform());
        said.pages_referenced = static_cast<std::int64_t>(rng.below(100));
        said.waiting_prefill_tokens = static_cast<std::int64_t>(rng.below(late ? 100 : 900));
        said.finished_requests = ids;
        said.finished_output_tokens = 7 * ids;
        dispatcher->note_snapshot(engine, said);
        break;
      }
      case 1:
        dispatcher->note_health(engine, rng.below(2) == 0, at_ms(now));
        dispatcher->note_expert_pressure(engine, rng.uniform());
        break;
      case 2:
        if (live.empty()) break;
        dispatcher->note_first_token(live[rng.below(live.size())]);
        break;
      case 3:
        if (live.empty()) break;
        std::swap(live[rng.below(live.size())], live.back());
        dispatcher->note_end(live.back());
        live.pop_back();
        break;
      default: {
        std::vector<sched::Request> group;
        for (std::uint64_t i = 0; i <= rng.below(2); ++i)
          group.push_back(request(++ids, static_cast<int>(1 + rng.below(200)), rng.below(5)));
        const auto taken = dispatcher->submit(group, at_ms(now));
        for (const sched::Request& each : group) {
          if (taken.ok()) live.push_back(each.id);
        }
      }
    }
    while (auto sent = dispatcher->next(at_ms(now))) {
      if (rng.below(6) > 0) continue;
      if (dispatcher->give_back(*sent)) continue;
      for (const sched::Request& each : sent->group)
        std::erase(live, each.id);
    }
  }
  for (const RequestId id : live)
    dispatcher->note_end(id);
  EXPECT_EQ(dispatcher->queued_groups(), 0U);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(dispatcher->ledger(EngineId{i}).counts(), policy::LedgerCounts{});
  for (const DecisionRecord& record : dispatcher->log().records())
    EXPECT_TRUE(decides_the_same(record));
  return std::move(out).str();
}

TEST(DispatcherTest, ARecordedLifeReplaysDecisionForDecision) {
  std::uint64_t seed = 0;
  for (const std::string_view rule : policy::dispatch_names()) {
    for (const bool late : {false, true}) {
      const std::string text = random_life(++seed, late, rule);
      std::istringstream in(text);
      const auto replay = replay_dispatch(in);
      ASSERT_TRUE(replay.ok()) << rule << ": " << replay.error().message;
      EXPECT_GT(replay->decisions, late ? 10U : 20U) << rule;
    }
  }
}

TEST(DispatcherTest, AnotherRuleReplaysOtherwise) {
  std::string text = random_life(1, false, "gimbal");
  const auto at = text.find("\"rule\":\"gimbal\"");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 15, "\"rule\":\"random\"");
  std::istringstream in(text);
  const auto replay = replay_dispatch(in);
  ASSERT_FALSE(replay.ok());
  EXPECT_NE(replay.error().message.find("decides otherwise"), std::string::npos);
}

TEST(DispatcherTest, HostileRecordsAreErrorsWithALineNumber) {
  const std::string good = random_life(1, true, "gimbal");
  const std::string header = good.substr(0, good.find('\n') + 1);
  const std::string submit =
      R"({"call":"submit","now":1,"requests":[{"id":1,"prompt":[1],"sampling":{"seed":0,)"
      R"("choice":0,"stop_token_ids":[]},"cache_salt":0,"user_key":0}]})";
  for (const auto& [line, message] : std::vector<std::pair<std::string, std::string>>{
           {"[]", "not a call"},
           {"{", "line 2"},
           {R"({"call":"dance"})", "not a call"},
           {R"({"call":"next"})", "not a call"},
           {R"({"call":"first"})", "a request is missing"},
           {R"({"call":"snapshot","engine":3,"value":{}})", "not one of the engines"},
           {R"({"call":"snapshot","engine":0})", "a value is missing"},
           {R"({"call":"snapshot","engine":0,"value":[]})", "an object"},
           {R"({"call":"prefix","engine":0,"value":[[2,1,1]]})", "an event must be"},
           {R"({"call":"health","engine":0})", "a time is missing"},
           {R"({"call":"submit","now":1,"requests":[]})", "requests are missing"},
           {R"({"call":"submit","now":1,"requests":[{"id":1}]})", "prompt"},
           {R"({"call":"decision","value":{}})", "was not made"},
           {submit + "\n" + submit, "line 3: a request must be new"},
           {R"({"call":"back","engine":0,"requests":[{"id":9,"prompt":[1],"sampling":{"seed":0,)"
            R"("choice":0,"stop_token_ids":[]},"cache_salt":0,"user_key":0}]})",
            "with an engine"},
           {submit + "\n" + R"({"call":"next","now":1})", "is not in the record"},
       }) {
    std::istringstream in(header + line + "\n");
    const auto replay = replay_dispatch(in);
    ASSERT_FALSE(replay.ok()) << line;
    EXPECT_NE(replay.error().message.find(message), std::string::npos) << replay.error().message;
  }
  for (const std::string text :
       {"", "{}", R"({"dispatch_record":1,"options":{"engines":0}})",
        R"({"dispatch_record":1,"options":{"engines":99999}})",
        R"({"dispatch_record":9,"options":{}})", R"({"dispatch_record":1,"options":{"rule":1}})"}) {
    std::istringstream in(text);
    EXPECT_FALSE(replay_dispatch(in).ok()) << text;
  }
}

}  // namespace
}  // namespace gimbal::cluster
