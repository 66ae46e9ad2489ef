// Several engines as one: tokens do not depend on which engine made them, every request ends once
// whatever fails, and what the dispatcher decided on real threads is decided again from its record.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "cluster/decision_json.h"
#include "data_parallel_fixture.h"
#include "policy/dispatch.h"
#include "sched/replay.h"
#include "sim/record_replay.h"

namespace gimbal::engine {
namespace {

using sched::FinishReason;

TEST_F(DataParallelTest, TokensDoNotDependOnEnginesOrRules) {
  constexpr std::uint64_t kRequests = 12;
  std::map<std::uint64_t, std::vector<TokenId>> expected;
  std::uint64_t first = 0;  // ids are not used again; equal ids mod 5 are equal requests
  const auto run = [&](int engines, std::string_view rule, bool late) {
    DataParallelOptions options{.fleet = {.engines = engines}};
    options.dispatch.rule = std::string(rule);
    options.dispatch.late = late;
    auto engine = start_several(options);
    for (std::uint64_t i = 0; i < kRequests; ++i)
      ASSERT_TRUE(engine->submit({request(first + i, 40, 8)}).ok());
    sink_.wait_for_ends(first + kRequests);
    const auto stories = sink_.stories();
    for (std::uint64_t i = 0; i < kRequests; ++i) {
      const auto& story = stories.at(RequestId{first + i});
      EXPECT_EQ(story.finish, FinishReason::kLength);
      auto& tokens = expected[(first + i) % 5];
      if (tokens.empty()) tokens = story.tokens;
      EXPECT_EQ(story.tokens, tokens) << rule << " with " << engines;
    }
    EXPECT_TRUE(engine->idle());
    first += kRequests;
  };
  for (const std::string_view rule : policy::dispatch_names()) {
    for (const int engines : {1, 2, 3})
      run(engines, rule, false);
  }
  run(2, "gimbal", true);
  run(3, "gimbal-v2", true);
}

TEST_F(DataParallelTest, RoundRobinUsesEveryEngineAndSnapshotsAddUp) {
  DataParallelOptions options{.fleet = {.engines = 3}};
  options.dispatch.rule = "round-robin";
  auto engine = start_several(options);
  for (std::uint64_t id = 0; id < 9; ++id)
    ASSERT_TRUE(engine->submit({request(id, 20, 4)}).ok());
  sink_.wait_for_ends(9);
  std::uint64_t tokens = 0;
  for (const cluster::EngineSnapshot& each : engine->snapshots()) {
    EXPECT_EQ(each.generated_tokens, 12U);
    EXPECT_EQ(each.finished_requests, 3U);
    EXPECT_EQ(each.pages_referenced, 0);
    tokens += each.generated_tokens;
  }
  EXPECT_EQ(engine->snapshot().generated_tokens, tokens);
  EXPECT_EQ(engine->snapshot().pages_total, 3 * 256);
  const auto status = engine->engine_status();
  ASSERT_EQ(status.size(), 3U);
  for (const cluster::EngineStatus& each : status) {
    EXPECT_EQ(each.dispatched, 3U);
    EXPECT_TRUE(each.healthy);
    EXPECT_EQ(each.view.ledger.requests, 0);
  }
  const auto dispatch = engine->dispatch_status();
  EXPECT_EQ(dispatch.rule, "round-robin");
  EXPECT_EQ(dispatch.reasons[static_cast<std::size_t>(policy::DispatchReason::kTurn)], 9U);
  const auto decisions = engine->decisions_of(RequestId{4});
  ASSERT_EQ(decisions.size(), 1U);
  EXPECT_EQ(decisions[0].engine, 1);
  EXPECT_EQ(engine->last_decisions(5).size(), 5U);
  EXPECT_EQ(engine->last_decisions(5).back().number, 9U);
}

TEST_F(DataParallelTest, PrefixesAreFoundWhereTheyAre) {
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.dispatch.rule = "cache-aware";
  auto engine = start_several(options);
  ASSERT_TRUE(engine->submit({request(3, 70, 2)}).ok());
  sink_.wait_for_ends(1);
  const int home = engine->decisions_of(RequestId{3}).at(0).engine;
  for (std::uint64_t id = 8; id < 28; id += 5) {  // equal prompts
    ASSERT_TRUE(engine->submit({request(id, 70, 2)}).ok());
    const auto decision = engine->decisions_of(RequestId{id}).at(0);
    EXPECT_EQ(decision.engine, home);
    EXPECT_EQ(decision.engines[static_cast<std::size_t>(home)].hit_tokens, 64);
    EXPECT_EQ(decision.reason, policy::DispatchReason::kPrefix);
  }
  sink_.wait_for_ends(5);
}

TEST_F(DataParallelTest, RandomSubmitsAndCancelsLeakNothing) {
  for (const bool late : {false, true}) {
    DataParallelOptions options{.fleet = {.engines = 2}};
    options.dispatch.late = late;
    auto engine = start_several(options, nullptr, 24);
    constexpr std::size_t kEach = 40;
    submit_some(*engine, kEach, late ? 1000 : 0, true);
    sink_.wait_for_ends((late ? 2 : 1) * kThreads * kEach);
    EXPECT_TRUE(engine->idle());
    const cluster::EngineSnapshot snapshot = engine->snapshot();
    EXPECT_EQ(snapshot.pages_referenced, 0);
    EXPECT_EQ(snapshot.running_requests + snapshot.waiting_requests, 0);
    for (const cluster::EngineStatus& status : engine->engine_status())
      EXPECT_EQ(status.view.ledger, policy::LedgerCounts{});
  }
}

TEST_F(DataParallelTest, RefusesWhatNoEngineCanServe) {
  auto engine = start_several({.fleet = {.engines = 2}});
  EXPECT_EQ(engine->submit({request(1, 0, 1)}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(engine->submit({request(2, 100, 29)}).error().field, "prompt");
  engine->cancel(RequestId{77});  // unknown
  engine->drain();
  EXPECT_EQ(engine->submit({request(4, 4, 4)}).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(engine->idle());
}

TEST_F(DataParallelTest, AFullQueueIsRefusedAndTheOtherEngineTakesMore) {
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.fleet.engine.scheduler.max_waiting_prefill_tokens = 100;
  auto engine = start_several(options);
  sink_.hold();  // both engines stand after their first token
  std::set<int> used;
  std::uint64_t id = 0;
  Result<void> taken;
  while (taken.ok() && id < 100) {
    taken = engine->submit({request(id, 90, 20)});
    if (taken.ok()) used.insert(engine->decisions_of(RequestId{id}).back().engine);
    ++id;
  }
  sink_.release();
  ASSERT_FALSE(taken.ok());
  EXPECT_EQ(taken.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(used.size(), 2U);
  sink_.wait_for_ends(id - 1);
  EXPECT_EQ(sink_.stories().size(), id - 1);
}

TEST_F(DataParallelTest, StoppingEndsWhatRunsAndWaits) {
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.dispatch.late = true;
  auto engine = start_several(options);
  for (std::uint64_t id = 0; id < 30; ++id)
    ASSERT_TRUE(engine->submit({request(id, 100, 20)}).ok());
  engine.reset();
  sink_.wait_for_ends(30);
  EXPECT_EQ(sink_.stories().size(), 30U);
}

TEST_F(DataParallelTest, DrainingServesWhatWaitsForAnEngine) {
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.dispatch.late = true;
  auto engine = start_several(options);
  for (std::uint64_t id = 0; id < 30; ++id)
    ASSERT_TRUE(engine->submit({request(id, 100, 5)}).ok());
  engine->drain();
  sink_.wait_for_ends(30);
  for (const auto& [id, story] : sink_.stories())
    EXPECT_EQ(story.finish, FinishReason::kLength) << id.value();
}

TEST_F(DataParallelTest, RecordsReplayDecisionForDecision) {
  for (const bool late : {false, true}) {
    DataParallelOptions options{.fleet = {.engines = 2}};
    options.dispatch.late = late;
    options.fleet.engine.record_path = folder_.path(late ? "late" : "early");
    const std::string path = options.fleet.engine.record_path + ".decisions";
    auto recorder = DecisionRecorder::open(path, 1000).value();
    options.fleet.engine.decisions = recorder.get();
    auto engine = start_several(options, nullptr, 24);
    constexpr std::size_t kEach = 30;
    submit_some(*engine, kEach, late ? 1000 : 0, true);
    sink_.wait_for_ends((late ? 2 : 1) * kThreads * kEach);
    engine.reset();
    std::ifstream dispatch(options.fleet.engine.record_path + ".dispatch");
    const auto replayed = cluster::replay_dispatch(dispatch);
    ASSERT_TRUE(replayed.ok()) << replayed.error().message;
    EXPECT_GT(replayed->decisions, 0U);
    for (const char* name : {".engine0", ".engine1"}) {
      std::ifstream record(options.fleet.engine.record_path + name);
      const auto report = sched::replay(record);
      ASSERT_TRUE(report.ok()) << report.error().message;
      EXPECT_GT(report->plans, 0U);
      std::ifstream again(options.fleet.engine.record_path + name);
      const auto simulated = sim::replay_record(again);
      ASSERT_TRUE(simulated.ok()) << simulated.error().message;
      EXPECT_EQ(simulated->plans, report->plans);
    }
    // Every request was queued once, where it had been sent, and again when it was evicted; with
    // late binding also before; some were cancelled then.
    const auto queued = recorder->last_orders(1000);
    const auto arrived = [&](bool at_an_engine) {
      return static_cast<std::size_t>(
          std::ranges::count_if(queued, [&](const cluster::OrderRecord& record) {
            return record.engine.has_value() == at_an_engine &&
                   record.decision.reason == sched::OrderReason::kArrived;
          }));
    };
    EXPECT_LE(arrived(true), kThreads * kEach);
    EXPECT_GT(arrived(true), late ? 0U : kThreads * kEach - 1);
    EXPECT_EQ(arrived(false), late ? kThreads * kEach : 0);
    recorder.reset();
    std::ifstream decisions(path);
    std::uint64_t dispatches = 0;
    std::uint64_t orders = 0;
    for (std::string line; std::getline(decisions, line);) {
      const auto json = parse_json(line);
      ASSERT_TRUE(json.ok());
      if (json->contains("order")) {
        EXPECT_TRUE(cluster::orders_the_same(cluster::order_from_json(*json).value()));
        ++orders;
      } else {
        EXPECT_TRUE(cluster::decides_the_same(cluster::decision_from_json(*json).value()));
        ++dispatches;
      }
    }
    EXPECT_EQ(dispatches, replayed->decisions);
    EXPECT_EQ(orders, queued.size());
  }
}

TEST_F(DataParallelTest, WrongOptionsAreErrorsThatNameThem) {
  DataParallelOptions options{.fleet = {.engines = 0}};
  EXPECT_EQ(DataParallelEngine::start(*model_, options, pool_, sink_).error().field,
            "data_parallel_size");
  options.fleet.engines = 2;
  options.dispatch.rule = "none";
  EXPECT_EQ(DataParallelEngine::start(*model_, options, pool_, sink_).error().field, "dispatch");
  options.dispatch.rule = "gimbal";
  options.fleet.engine.record_path = folder_.path("none/record");
  EXPECT_EQ(DataParallelEngine::start(*model_, options, pool_, sink_).error().code,
            ErrorCode::kNotFound);
}

}  // namespace
}  // namespace gimbal::engine
