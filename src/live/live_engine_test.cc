#include "live/live_engine.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "live/live_engine_fixture.h"
#include "sim/simulated_cluster.h"
#include "workload/prompt_tokens.h"

namespace gimbal::live {
namespace {

using sched::FinishReason;

TEST_F(LiveEngineTest, SaysTheTextAtTheTimesOfTheSimulation) {
  start({});
  submit(request_of(7, 3, 4));
  run();
  const Told told = sink->of(7);
  EXPECT_EQ(told.finish, FinishReason::kLength);
  ASSERT_EQ(told.tokens.size(), 4U);
  // Four layers of 150 µs and 10 µs a row; 1 ms beside.
  EXPECT_NEAR(to_ms(told.times[0]), 1.0 + 4 * (0.15 + 0.03), 1e-3);
  for (std::size_t i = 1; i < 4; ++i)
    EXPECT_NEAR(to_ms(told.times[i] - told.times[i - 1]), 1.0 + 4 * 0.16, 1e-3);
  const std::vector<TokenId> whole = {10, 11, 20, 21, 30, 31};
  const auto first = std::find(whole.begin(), whole.end(), told.tokens[0]) - whole.begin();
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_EQ(told.tokens[i], whole[(static_cast<std::size_t>(first) + i) % 6]);
}

// The same requests as a workload: the same times, to the microsecond.
TEST_F(LiveEngineTest, TellsWhatTheSimulatorWouldHaveLogged) {
  const workload::Workload workload = sim::random_workload(3, 60, 4);
  start({.engines = 2});
  const auto batch = sim::plain_cluster(*testbed, sim::plain_system("gimbal"), workload);
  batch->run();
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    const workload::RequestSpec& spec = workload.requests[i];
    run(TimePoint{spec.arrival} - clock.now());
    sched::Request request;
    request.id = RequestId{i + 1};
    request.prompt = workload::prompt_tokens(spec, {.vocab_size = 1000});
    request.max_tokens = static_cast<int>(spec.output_tokens);
    if (spec.traffic_class == workload::TrafficClass::kBestEffort)
      request.request_class = sched::RequestClass::kBestEffort;
    request.user_key = hash_bytes(spec.user);
    submit(std::move(request));
  }
  run();
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    const sim::RequestEntry& entry = batch->log().entries()[i];
    const Told told = sink->of(i + 1);
    ASSERT_EQ(told.tokens.size(), static_cast<std::size_t>(entry.output_tokens));
    EXPECT_NEAR(to_ms(told.times.front()), to_ms(entry.first), 1e-3);
    EXPECT_NEAR(to_ms(told.times.back()), to_ms(entry.last), 1e-3);
    EXPECT_EQ(told.cached, entry.cached_tokens);
  }
}

TEST_F(LiveEngineTest, ScaledTimeIsTheSameFaster) {
  std::vector<Duration> times[2];
  for (const int scale : {1, 10}) {
    clock = ManualClock();
    start({.engines = 2, .time_scale = static_cast<double>(scale)});
    for (std::uint64_t id = 1; id <= 6; ++id) {
      submit(request_of(id, 50, 20));
      run(std::chrono::milliseconds(10) / scale);
    }
    run();
    for (std::uint64_t id = 1; id <= 6; ++id) {
      const Told told = sink->of(id);
      ASSERT_EQ(told.tokens.size(), 20U);
      times[scale == 1 ? 0 : 1].push_back(told.times.back());
    }
    engine.reset();
  }
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(to_ms(times[0][i]), 10 * to_ms(times[1][i]), 1e-3);
}

TEST_F(LiveEngineTest, ALateThreadDoesNotMoveVirtualTime) {
  start({});
  submit(request_of(1, 3, 2));
  clock.advance(std::chrono::milliseconds(3));  // nobody looked meanwhile
  submit(request_of(2, 3, 2));
  clock.advance(std::chrono::seconds(1));
  engine->advance();
  EXPECT_EQ(sink->of(1).finish, FinishReason::kLength);
  EXPECT_EQ(sink->of(2).finish, FinishReason::kLength);
  const auto status = engine->engine_status();
  ASSERT_EQ(status.size(), 1U);
  // The step that the second waited for ended at 3.36 ms, and the next one 1 ms later or more.
  EXPECT_LT(to_ms(status[0].snapshot.taken.time_since_epoch()), 10.0);
  EXPECT_EQ(status[0].snapshot.finished_requests, 2U);
}

TEST_F(LiveEngineTest, OpenAnswersEndByThemselvesAfterASentence) {
  start({});
  for (std::uint64_t id = 1; id <= 8; ++id) {
    sched::Request request = request_of(id, 12, 500);  // all of the context
    request.sampling.seed = id;
    submit(std::move(request));
  }
  sched::Request whole = request_of(9, 12, 500);
  whole.sampling.ignore_eos = true;
  submit(std::move(whole));
  run();
  for (std::uint64_t id = 1; id <= 8; ++id) {
    const Told told = sink->of(id);
    EXPECT_EQ(told.finish, FinishReason::kStop);
    ASSERT_FALSE(told.tokens.empty());
    EXPECT_EQ(told.tokens.back(), 99);
    EXPECT_EQ(told.tokens.size() % 2, 1U);  // whole sentences and the end
    EXPECT_GE(told.tokens.size(), 3U);
    EXPECT_LE(told.tokens.size(), 9U);
  }
  EXPECT_EQ(sink->of(9).finish, FinishReason::kLength);
  EXPECT_EQ(sink->of(9).tokens.size(), 500U);
}

TEST_F(LiveEngineTest, AStopTokenEndsAnAnswer) {
  start({});
  sched::Request request = request_of(1, 5, 50);
  request.sampling.stop_token_ids = {21};
  request.sampling.min_tokens = 7;
  submit(std::move(request));
  run();
  EXPECT_EQ(sink->of(1).finish, FinishReason::kStop);
  EXPECT_EQ(sink->of(1).tokens.back(), 21);
  EXPECT_GE(sink->of(1).tokens.size(), 8U);
}

TEST_F(LiveEngineTest, CancellingEndsARequestAndFreesItsPages) {
  start({});
  submit(request_of(1, 40, 300));
  submit(request_of(2, 40, 3, 500));
  run(std::chrono::milliseconds(20));
  ASSERT_FALSE(sink->of(1).finish.has_value());
  engine->cancel(RequestId{1});
  engine->cancel(RequestId{77});  // unknown
  run();
  EXPECT_EQ(sink->of(1).finish, FinishReason::kCancelled);
  EXPECT_EQ(sink->of(2).finish, FinishReason::kLength);
  const auto snapshot = engine->snapshot();
  EXPECT_EQ(snapshot.pages_referenced, 0);
  EXPECT_EQ(snapshot.running_requests + snapshot.waiting_requests, 0);
  engine->cancel(RequestId{1});
  run();
}

TEST_F(LiveEngineTest, ARequestThatWaitsForAnEngineCanBeCancelled) {
  start({.late = true});
  for (std::uint64_t id = 1; id <= 12; ++id)
    submit(request_of(id, 400, 5, static_cast<TokenId>(id)));
  engine->advance();
  ASSERT_GT(engine->dispatch_status().queued_groups, 0U);
  for (std::uint64_t id = 1; id <= 12; ++id)
    engine->cancel(RequestId{id});
  run();
  for (std::uint64_t id = 1; id <= 12; ++id)
    EXPECT_EQ(sink->of(id).finish, FinishReason::kCancelled);
  EXPECT_EQ(engine->dispatch_status().queued_groups, 0U);
}

TEST_F(LiveEngineTest, RefusesWhenQueuesAreFull) {
  start({.engines = 2, .max_waiting = 500});
  int refused = 0;
  for (std::uint64_t id = 1; id <= 20; ++id)
    submit(request_of(id, 300, 2, static_cast<TokenId>(20 * id)));
  run();
  for (std::uint64_t id = 1; id <= 20; ++id) {
    const Told told = sink->of(id);
    ASSERT_TRUE(told.finish.has_value());
    if (told.refused) {
      EXPECT_EQ(told.refused, ErrorCode::kResourceExhausted);
      ++refused;
    }
  }
  EXPECT_GT(refused, 5);
  EXPECT_LT(refused, 20);
}

TEST_F(LiveEngineTest, AnEngineThatFailsGivesItsUntoldRequestsToAnother) {
  start({.engines = 2,
         .script = {{.kind = sim::ScriptEvent::Kind::kFail,
                     .at = std::chrono::milliseconds(50),
                     .engine = EngineId{0},
                     .noticed_after = std::chrono::milliseconds(20)}}});
  for (std::uint64_t id = 1; id <= 4; ++id)
    submit(request_of(id, 20, 60, static_cast<TokenId>(30 * id)));
  run(std::chrono::milliseconds(49));
  for (std::uint64_t id = 5; id <= 8; ++id)  // told nothing when it fails
    submit(request_of(id, 250, 4, static_cast<TokenId>(40 * id)));
  run();
  int failed = 0;
  for (std::uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE(sink->of(id).finish.has_value());
    failed += sink->of(id).finish == FinishReason::kFailed ? 1 : 0;
  }
  EXPECT_EQ(failed, 2);
  for (std::uint64_t id = 5; id <= 8; ++id)
    EXPECT_EQ(sink->of(id).finish, FinishReason::kLength);
  std::string why;
  EXPECT_TRUE(engine->healthy(&why));
  const auto status = engine->engine_status();
  EXPECT_FALSE(status[0].healthy);
  EXPECT_TRUE(status[1].healthy);
}

TEST_F(LiveEngineTest, WithoutAnyEngineNothingIsHealthyAndRequestsAreRefused) {
  start({.script = {{.kind = sim::ScriptEvent::Kind::kFail, .at = std::chrono::milliseconds(5)}}});
  run(std::chrono::milliseconds(10));
  std::string why;
  EXPECT_FALSE(engine->healthy(&why));
  EXPECT_FALSE(why.empty());
  submit(request_of(1, 20, 60));
  run();
  EXPECT_EQ(sink->of(1).finish, FinishReason::kFailed);
  EXPECT_EQ(sink->of(1).refused, ErrorCode::kUnavailable);
}

TEST_F(LiveEngineTest, TheSecondRequestFindsItsPrefix) {
  start({});
  submit(request_of(1, 100, 2));
  run();
  submit(request_of(2, 100, 2));
  run();
  EXPECT_EQ(sink->of(1).cached, 0);
  EXPECT_EQ(sink->of(2).cached, 96);
  EXPECT_EQ(engine->snapshot().prefix_hit_tokens, 96U);
}

TEST_F(LiveEngineTest, ChecksRequestsAtOnce) {
  start({});
  const auto code_of = [&](sched::Request request) {
    std::vector<sched::Request> group;
    group.push_back(std::move(request));
    return engine->submit(std::move(group)).error().code;
  };
  EXPECT_EQ(code_of(request_of(1, 500, 500)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(request_of(1, 0, 5)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(request_of(1, 5, 5, 1000)), ErrorCode::kInvalidArgument);
  sched::Request logprobs = request_of(1, 5, 5);
  logprobs.sampling.logprobs = 2;
  EXPECT_EQ(code_of(std::move(logprobs)), ErrorCode::kUnsupported);
  engine->drain();
  EXPECT_EQ(code_of(request_of(1, 5, 5)), ErrorCode::kUnavailable);
}

TEST_F(LiveEngineTest, RefusesTimeScalesThatAreNone) {
  testbed = sim::plain_testbed(sim::uniform_cluster(1, 1).value());
  sink.emplace(clock);
  for (const double scale : {0.0, -1.0, 1001.0, std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity()}) {
    const auto made = LiveEngine::make(
        {.cluster = sim::cluster_options(*testbed, sim::plain_system("gimbal")).value(),
         .time_scale = scale,
         .text = text_of()},
        clock, *sink);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().field, "time-scale");
  }
}

TEST_F(LiveEngineTest, ShowsItsDecisions) {
  start({.engines = 3});
  for (std::uint64_t id = 1; id <= 9; ++id)
    submit(request_of(id, 30, 5, static_cast<TokenId>(40 * id)));
  run();
  EXPECT_EQ(engine->last_decisions(4).size(), 4U);
  EXPECT_EQ(engine->decisions_of(RequestId{5}).size(), 1U);
  std::uint64_t dispatched = 0;
  for (const cluster::EngineStatus& status : engine->engine_status())
    dispatched += status.dispatched;
  EXPECT_EQ(dispatched, 9U);
}

// Everything at once, on the real clock: for sanitizers.
TEST_F(LiveEngineTest, ThreadsMayComeAndGo) {
  const SteadyClock real;
  start({.engines = 2, .time_scale = 50}, real);
  engine->start();
  std::vector<std::thread> clients;
  for (std::uint64_t client = 0; client < 3; ++client) {
    clients.emplace_back([this, client] {
      for (std::uint64_t i = 1; i <= 40; ++i) {
        const std::uint64_t id = 1000 * client + i;
        std::vector<sched::Request> group;
        group.push_back(request_of(id, 20, 1 + static_cast<int>(i % 30)));
        EXPECT_TRUE(engine->submit(std::move(group)).ok());
        if (i % 5 == 0) engine->cancel(RequestId{id});
        static_cast<void>(engine->snapshot());
        static_cast<void>(engine->engine_status());
        static_cast<void>(engine->last_decisions(10));
      }
    });
  }
  for (std::thread& client : clients)
    client.join();
  engine.reset();  // ends what still runs
  for (std::uint64_t client = 0; client < 3; ++client) {
    for (std::uint64_t i = 1; i <= 40; ++i)
      EXPECT_TRUE(sink->of(1000 * client + i).finish.has_value());
  }
}

}  // namespace
}  // namespace gimbal::live
