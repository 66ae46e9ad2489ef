// Several engines as one: tokens do not depend on which engine made them, every request ends once
// whatever fails, and what the dispatcher decided on real threads is decided again from its record.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>
#include <stdexcept>
#include <thread>

#include "base/json.h"
#include "base/random.h"
#include "cluster/decision_json.h"
#include "engine/data_parallel_engine.h"
#include "engine_fixture.h"
#include "policy/dispatch.h"
#include "sched/replay.h"
#include "sim/record_replay.h"

namespace gimbal::engine {
namespace {

using sched::FinishReason;

// Passes on to a collector; throws on the engine's thread when it is told to.
class ThrowingSink final : public cluster::TokenSink {
 public:
  explicit ThrowingSink(Collector& collector) : collector_(collector) {}

  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    bool fails = false;
    for (const cluster::TokenOutput& output : outputs)
      fails = fails || (output.token && fail_at_.load() == output.request.value());
    collector_.on_outputs(outputs);
    if (fails && left_.fetch_sub(1) > 0) throw std::runtime_error("a fault of the test");
  }
  // Engines that tell a token of this request fail, so many of them.
  void fail_at(std::uint64_t request, int engines = 1) {
    left_.store(engines);
    fail_at_.store(request);
  }

 private:
  Collector& collector_;
  std::atomic<std::uint64_t> fail_at_{~std::uint64_t{0}};
  std::atomic<int> left_{0};
};

class DataParallelTest : public EngineFixture {
 protected:
  std::unique_ptr<DataParallelEngine> start_several(DataParallelOptions options,
                                                    cluster::TokenSink* sink = nullptr,
                                                    int kv_pages = 256) {
    sched::StepLoopOptions& scheduler = options.fleet.engine.scheduler;
    scheduler.max_num_batched_tokens = 64;
    scheduler.max_num_seqs = 8;
    scheduler.max_model_len = 128;
    // Nobody is given up because the machine is slow, but where a test asks for it.
    Duration& dead_after = options.fleet.engine.dead_after;
    if (dead_after == ServingEngineOptions{}.dead_after) dead_after = std::chrono::minutes(10);
    options.fleet.engine.kv_cache_bytes =
        kv_pages * model::KvStorage::page_bytes(model_->config(), model_->dtype());
    auto started = DataParallelEngine::start(*model_, options, pool_, sink ? *sink : sink_);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return std::move(started).value();
  }

  // Submits and cancels from three threads. Ids are from `first` on.
  static constexpr int kThreads = 3;
  void submit_some(DataParallelEngine& engine, int each, std::uint64_t first, bool cancels) {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([this, &engine, each, first, cancels, thread] {
        Rng rng(thread + 1);
        for (int i = 0; i < each; ++i) {
          const std::uint64_t id = first + static_cast<std::uint64_t>(thread * each + i);
          sched::Request made =
              request(id, 1 + static_cast<int>(rng.below(80)), 1 + static_cast<int>(rng.below(20)));
          if (rng.below(3) == 0) made.request_class = sched::RequestClass::kBestEffort;
          made.user_key = 1 + rng.below(4);
          ASSERT_TRUE(engine.submit({std::move(made)}).ok());
          if (cancels && rng.below(3) == 0)
            engine.cancel(
                RequestId{first + rng.below(static_cast<std::uint64_t>(kThreads * each))});
        }
      });
    }
    for (auto& thread : threads)
      thread.join();
  }

  TemporaryFolder folder_;
};

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

TEST_F(DataParallelTest, AFailedEnginesRequestsGoToTheOther) {
  ThrowingSink sink(sink_);
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.dispatch.rule = "round-robin";
  auto engine = start_several(options, &sink);
  std::string why;
  sink.fail_at(0);
  for (std::uint64_t id = 0; id < 24; id += 2)
    ASSERT_TRUE(engine->submit({request(id, 60, 10), request(id + 1, 60, 10)}).ok());
  sink_.wait_for_ends(24);
  EXPECT_TRUE(engine->healthy(&why));
  int failed = 0;
  const auto stories = sink_.stories();
  for (const auto& [id, story] : stories) {
    if (story.finish == FinishReason::kFailed) {
      // It had been told a token.
      EXPECT_FALSE(story.tokens.empty()) << id.value();
      ++failed;
      continue;
    }
    EXPECT_EQ(story.finish, FinishReason::kLength) << id.value();
    EXPECT_EQ(story.tokens.size(), 10U);
  }
  EXPECT_EQ(stories.at(RequestId{0}).finish, FinishReason::kFailed);
  EXPECT_LT(failed, 24);
  const auto status = engine->engine_status();
  EXPECT_NE(status[0].healthy, status[1].healthy);
  const std::size_t dead = status[0].healthy ? 1 : 0;
  EXPECT_EQ(status[dead].failure, "a fault of the test");
  EXPECT_EQ(status[dead].view.ledger, policy::LedgerCounts{});
  EXPECT_EQ(status[dead].snapshot.running_requests, 0);
  EXPECT_EQ(status[dead].snapshot.pages_referenced, 0);
  EXPECT_GT(status[dead].snapshot.steps, 0U);
  // The one that is left serves on.
  ASSERT_TRUE(engine->submit({request(100, 20, 5)}).ok());
  ASSERT_TRUE(engine->submit({request(101, 20, 5)}).ok());
  sink_.wait_for_ends(26);
  EXPECT_EQ(sink_.stories().at(RequestId{101}).tokens.size(), 5U);
}

TEST_F(DataParallelTest, ACancelledRequestDoesNotGoToAnotherEngine) {
  ThrowingSink sink(sink_);
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.fleet.pace = cluster::GangPace::kImmediate;  // no engine waits for one that stands
  options.dispatch.rule = "round-robin";
  auto engine = start_several(options, &sink);
  sink.fail_at(0);
  sink_.hold();
  ASSERT_TRUE(engine->submit({request(0, 60, 10)}).ok());
  ASSERT_TRUE(engine->submit({request(1, 60, 10)}).ok());
  ASSERT_TRUE(engine->submit({request(2, 100, 20)}).ok());  // of more than one step
  const int home = engine->decisions_of(RequestId{0}).at(0).engine;
  EXPECT_EQ(engine->decisions_of(RequestId{2}).at(0).engine, home);
  // It stands where it tells of request 0, fails there, and never looks at the cancellation.
  while (engine->snapshots()[static_cast<std::size_t>(home)].generated_tokens == 0)
    std::this_thread::yield();
  engine->cancel(RequestId{2});
  sink_.release();
  sink_.wait_for_ends(3);
  const auto stories = sink_.stories();
  EXPECT_EQ(stories.at(RequestId{0}).finish, FinishReason::kFailed);
  EXPECT_EQ(stories.at(RequestId{1}).finish, FinishReason::kLength);
  EXPECT_EQ(stories.at(RequestId{2}).finish, FinishReason::kCancelled);
  EXPECT_TRUE(stories.at(RequestId{2}).tokens.empty());
}

TEST_F(DataParallelTest, WhileDrainingAFailedEnginesRequestsGoToTheOther) {
  ThrowingSink sink(sink_);
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.fleet.pace = cluster::GangPace::kImmediate;
  options.dispatch.rule = "round-robin";
  auto engine = start_several(options, &sink);
  sink.fail_at(0);
  sink_.hold();
  ASSERT_TRUE(engine->submit({request(0, 60, 10)}).ok());
  ASSERT_TRUE(engine->submit({request(1, 60, 10)}).ok());
  ASSERT_TRUE(engine->submit({request(2, 100, 20)}).ok());
  engine->drain();
  EXPECT_EQ(engine->submit({request(3, 10, 2)}).error().code, ErrorCode::kUnavailable);
  sink_.release();
  sink_.wait_for_ends(3);
  EXPECT_EQ(sink_.stories().at(RequestId{0}).finish, FinishReason::kFailed);
  EXPECT_EQ(sink_.stories().at(RequestId{2}).finish, FinishReason::kLength);
}

TEST_F(DataParallelTest, WhenAllEnginesFailRequestsEndWithAnError) {
  ThrowingSink sink(sink_);
  auto engine = start_several({.fleet = {.engines = 2}}, &sink);
  std::string why;
  ASSERT_TRUE(engine->healthy(&why));
  for (std::uint64_t id = 0; id < 2; ++id) {  // one after the other
    sink.fail_at(id);
    ASSERT_TRUE(engine->submit({request(id, 20, 9)}).ok());
    sink_.wait_for_ends(id + 1);
    EXPECT_EQ(sink_.stories().at(RequestId{id}).finish, FinishReason::kFailed);
  }
  EXPECT_FALSE(engine->healthy(&why));
  EXPECT_EQ(why, "a fault of the test");
  const auto refused = engine->submit({request(9, 20, 9)});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(sink_.stories().size(), 2U);
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
    // Every request was queued once, where it had been sent, and again when it was evicted; some
    // were cancelled before.
    const auto queued = recorder->last_orders(1000);
    const auto arrived = static_cast<std::size_t>(
        std::ranges::count_if(queued, [](const cluster::OrderRecord& record) {
          return record.decision.reason == sched::OrderReason::kArrived;
        }));
    EXPECT_LE(arrived, kThreads * kEach);
    EXPECT_GT(arrived, late ? 0U : kThreads * kEach - 1);
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

// Keeps the engine that tells of a certain request from going on, until it is released.
class HangingSink final : public cluster::TokenSink {
 public:
  HangingSink(cluster::TokenSink& next, RequestId hangs) : next_(next), hangs_(hangs) {}
  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    const bool hang = std::any_of(outputs.begin(), outputs.end(), [this](const auto& output) {
      return output.request == hangs_ && output.token && !output.finish;
    });
    next_.on_outputs(outputs);
    if (hang) released_.wait(false);
  }
  void release() {
    released_ = true;
    released_.notify_all();
  }

 private:
  cluster::TokenSink& next_;
  RequestId hangs_;
  std::atomic<bool> released_{false};
};

TEST_F(DataParallelTest, RequestsOfAnEngineThatHangsGoOnWithoutIt) {
  HangingSink sink(sink_, RequestId{1});
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.fleet.pace = cluster::GangPace::kLockstep;  // the others wait for it, and so find out
  options.fleet.engine.dead_after = std::chrono::seconds(5);
  options.dispatch.rule = "round-robin";
  auto engine = start_several(options, &sink);
  for (std::uint64_t id = 1; id <= 8; ++id)
    ASSERT_TRUE(engine->submit({request(id, 30, 20)}).ok());
  sink_.wait_for_ends(8);
  const auto stories = sink_.stories();
  EXPECT_EQ(stories.at(RequestId{1}).finish, FinishReason::kFailed);  // some of it had been told
  int whole = 0;
  for (std::uint64_t id = 2; id <= 8; ++id)
    whole += stories.at(RequestId{id}).finish == FinishReason::kLength ? 1 : 0;
  EXPECT_GE(whole, 4);  // those of the other engine at least
  EXPECT_TRUE(engine->healthy(nullptr));
  ASSERT_TRUE(engine->submit({request(20, 10, 3)}).ok());
  sink_.wait_for_ends(9);
  sink.release();
}

TEST_F(DataParallelTest, AnEngineThatHangsGetsNothingMore) {
  ThrowingSink throwing(sink_);
  HangingSink sink(throwing, RequestId{0});
  DataParallelOptions options{.fleet = {.engines = 2}};
  options.fleet.pace = cluster::GangPace::kLockstep;
  options.fleet.engine.dead_after = std::chrono::seconds(5);
  options.dispatch.rule = "round-robin";
  auto engine = start_several(options, &sink);
  for (std::uint64_t id = 0; id < 2; ++id)
    ASSERT_TRUE(engine->submit({request(id, 60, 30)}).ok());
  sink_.wait_for_ends(2);
  EXPECT_EQ(sink_.stories().at(RequestId{0}).finish, FinishReason::kFailed);
  EXPECT_EQ(sink_.stories().at(RequestId{1}).finish, FinishReason::kLength);
  // Now the other one fails: nobody is left, and the one that hangs is not asked.
  throwing.fail_at(3);
  ASSERT_TRUE(engine->submit({request(3, 20, 5)}).ok());
  sink_.wait_for_ends(3);
  EXPECT_FALSE(engine->healthy(nullptr));
  const auto refused = engine->submit({request(4, 20, 5)});
  EXPECT_FALSE(refused.ok());
  sink.release();
  EXPECT_EQ(sink_.stories().size(), 3U);
}

}  // namespace
}  // namespace gimbal::engine
