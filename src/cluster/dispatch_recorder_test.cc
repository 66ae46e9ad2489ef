#include "cluster/dispatch_recorder.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/random.h"
#include "cluster/decision_json.h"
#include "cluster/dispatcher_fixture.h"

namespace gimbal::cluster {
namespace {

// Of an engine that has seen some of the first `ids` dispatches; `light`: few tokens wait.
EngineSnapshot random_snapshot(Rng& rng, std::uint64_t sequence, std::uint64_t ids, bool light) {
  EngineSnapshot said = loaded(sequence, static_cast<double>(rng.below(400)), rng.below(ids + 1));
  said.pages_referenced = static_cast<std::int64_t>(rng.below(100));
  said.waiting_prefill_tokens = static_cast<std::int64_t>(rng.below(light ? 100 : 900));
  said.finished_requests = ids;
  said.finished_output_tokens = 7 * ids;
  said.queues_profiled = rng.below(2) == 0;
  said.prefill_cost = {.ms_per_token = 0.1};
  said.queue.add({{0, 10 * rng.uniform()}, 50, 3});
  return said;
}

// A random life of three engines. Every request ends once. Returns the record.
std::string random_life(std::uint64_t seed, bool late, std::string_view rule) {
  std::ostringstream out;
  DispatchRecorder recorder(out);
  Rng rng(seed);
  auto dispatcher = make({.engines = 3,
                          .rule = std::string(rule),
                          .rule_options = {.exchange_ms_per_token = 1},
                          .late = late,
                          .groups = {0, 0, 1},
                          .seed = seed},
                         &recorder);
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
        EngineSnapshot said = random_snapshot(rng, ++sequences[index], ids, late);
        said.taken = at_ms(now - 5 * rng.uniform());
        dispatcher->note_snapshot(engine, said);
        break;
      }
      case 1:
        dispatcher->note_health(engine, rng.below(2) == 0, at_ms(now));
        dispatcher->note_expert_pressure(engine, rng.uniform());
        dispatcher->note_expert_map(engine, rng.below(3));
        break;
      case 2:
        if (live.empty()) break;
        dispatcher->note_first_token(live[rng.below(live.size())]);
        break;
      case 3:
        if (live.empty()) break;
        std::swap(live[rng.below(live.size())], live.back());
        if (rng.below(2) == 0) {
          dispatcher->note_expert_rows(
              live.back(), {.map = rng.below(3), .by_rank = {rng.uniform(), rng.uniform()}});
        }
        dispatcher->note_end(live.back());
        live.pop_back();
        break;
      default: {
        std::vector<sched::Request> group;
        // Sometimes to one of the engines, or to one that there is not.
        const int pinned = rng.below(8) == 0 ? static_cast<int>(rng.below(4)) : -1;
        for (std::uint64_t i = 0; i <= rng.below(2); ++i) {
          group.push_back(request(++ids, static_cast<int>(1 + rng.below(200)), rng.below(5)));
          group.back().pinned_engine = pinned;
        }
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

TEST(DispatchRecorderTest, ARecordedLifeReplaysDecisionForDecision) {
  std::uint64_t seed = 0;
  for (const std::string_view rule : policy::dispatch_names()) {
    for (const bool late : {false, true}) {
      const std::string text = random_life(++seed, late, rule);
      std::istringstream in(text);
      const auto replay = replay_dispatch(in);
      ASSERT_TRUE(replay.ok()) << rule << ": " << replay.error().message;
      EXPECT_GT(replay->decisions, late ? 10U : 20U) << rule;
      EXPECT_EQ(replay->orders > 10, late) << rule << " " << replay->orders;
    }
  }
}

// A record made before expert rows were told says nothing of them.
TEST(DispatchRecorderTest, ARecordWithoutExpertRowsIsRead) {
  std::ostringstream out;
  DispatchRecorder recorder(out);
  auto dispatcher = make({.engines = 2, .groups = {0, 0}}, &recorder);
  for (std::uint64_t id = 1; id <= 9; ++id) {
    ASSERT_TRUE(dispatcher->submit({request(id, 10, 1)}, at_ms(1)).ok());
    ASSERT_TRUE(dispatcher->next(at_ms(1)));
    dispatcher->note_end(RequestId{id});
  }
  const std::string text = out.str();
  EXPECT_EQ(text.find("\"rows\""), std::string::npos);
  EXPECT_EQ(text.find("\"map\""), std::string::npos);
  std::istringstream in(text);
  const auto replay = replay_dispatch(in);
  ASSERT_TRUE(replay.ok()) << replay.error().message;
  EXPECT_EQ(replay->decisions, 9U);
}

TEST(DispatchRecorderTest, AnOrderThatDiffersIsFound) {
  const std::string text = random_life(3, true, "gimbal");
  std::string changed = text;
  const auto order = text.find("\"call\":\"order\"");
  ASSERT_NE(order, std::string::npos);
  const std::string what = "\"job_tokens\":";
  changed.insert(text.find(what, order) + what.size(), "1");
  std::istringstream in(changed);
  const auto replay = replay_dispatch(in);
  ASSERT_FALSE(replay.ok());
  EXPECT_NE(replay.error().message.find("job_tokens is "), std::string::npos)
      << replay.error().message;
}

// A record made before the queue's places were written says nothing of them.
TEST(DispatchRecorderTest, ARecordWithoutOrdersIsRead) {
  std::istringstream lines(random_life(3, true, "gimbal"));
  std::string old;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("\"call\":\"order\"") != std::string::npos) continue;
    const std::string flag = ",\"orders\":true";
    if (old.empty()) {
      ASSERT_NE(line.find(flag), std::string::npos) << line;
      line.erase(line.find(flag), flag.size());
    }
    old += line + "\n";
  }
  std::istringstream in(old);
  const auto replay = replay_dispatch(in);
  ASSERT_TRUE(replay.ok()) << replay.error().message;
  EXPECT_EQ(replay->orders, 0U);
}

TEST(DispatchRecorderTest, AnotherRuleReplaysOtherwise) {
  std::string text = random_life(1, false, "gimbal");
  const auto at = text.find("\"rule\":\"gimbal\"");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 15, "\"rule\":\"random\"");
  std::istringstream in(text);
  const auto replay = replay_dispatch(in);
  ASSERT_FALSE(replay.ok());
  EXPECT_NE(replay.error().message.find("decides otherwise"), std::string::npos);
}

TEST(DispatchRecorderTest, HostileRecordsAreErrorsWithALineNumber) {
  const std::string good = random_life(1, true, "gimbal");
  std::string header = good.substr(0, good.find('\n') + 1);
  const std::string orders = ",\"orders\":true";
  ASSERT_NE(header.find(orders), std::string::npos);
  header.erase(header.find(orders), orders.size());
  const std::string submit =
      R"({"call":"submit","now":1,"requests":[{"id":1,"prompt":[1],"sampling":{"seed":0,)"
      R"("choice":0,"stop_token_ids":[]},"cache_salt":0,"user_key":0}]})";
  for (
      const auto& [line, message] : std::vector<std::pair<std::string, std::string>>{
          {"[]", "not a call"},
          {"{", "line 2"},
          {R"({"call":"dance"})", "not a call"},
          {R"({"call":"next"})", "not a call"},
          {R"({"call":"first"})", "a request is missing"},
          {R"({"call":"snapshot","engine":3,"value":{}})", "not one of the engines"},
          {R"({"call":"snapshot","engine":0})", "a value is missing"},
          {R"({"call":"snapshot","engine":0,"value":[]})", "an object"},
          {R"({"call":"prefix","engine":0,"value":[[2,1,1]]})", "an event must be"},
          {R"({"call":"map","engine":3,"map":1})", "not one of the engines"},
          {R"({"call":"map","engine":0})", "a map is missing"},
          {R"({"call":"map","engine":0,"map":-1})", "an integer in range"},
          {R"({"call":"rows","map":1,"by_rank":[1]})", "a request is missing"},
          {R"({"call":"rows","request":1,"by_rank":[1]})", "a map is missing"},
          {R"({"call":"rows","request":1,"map":1,"by_rank":[1,-1]})", "must be at least 0"},
          {R"({"call":"rows","request":1,"map":1,"by_rank":[1e16]})", "a number within 1e15"},
          {R"({"call":"rows","request":1,"map":1,"by_rank":["a"]})", "a number"},
          {R"({"call":"health","engine":0})", "a time is missing"},
          {R"({"call":"submit","now":1,"requests":[]})", "requests are missing"},
          {R"({"call":"submit","now":1,"requests":[{"id":1}]})", "prompt"},
          {R"({"call":"decision","value":{}})", "was not made"},
          {submit + "\n" + submit, "line 3: a request must be new"},
          {R"({"call":"back","engine":0,"requests":[{"id":9,"prompt":[1],"sampling":{"seed":0,)"
           R"("choice":0,"stop_token_ids":[]},"cache_salt":0,"user_key":0}]})",
           "with an engine"},
          {submit + "\n" + R"({"call":"next","now":1})", "is not in the record"},
          {R"({"call":"submit","now":1,"requests":[{"id":1,"prompt":[1],"sampling":{"seed":0,)"
           R"("choice":0,"stop_token_ids":[]},"cache_salt":0,"user_key":0},{"id":1,"prompt":[1],)"
           R"("sampling":{"seed":0,"choice":0,"stop_token_ids":[]},"cache_salt":0,"user_key":0}]})",
           "a request must be new"},
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
