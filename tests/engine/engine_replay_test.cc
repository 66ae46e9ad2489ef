// What an engine with its thread recorded, a scheduler alone decides again: whatever it decides is
// a function of its events and their times.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "engine_fixture.h"
#include "sched/replay.h"
#include "sim/record_replay.h"

namespace gimbal::engine {
namespace {

class EngineReplayTest : public EngineFixture {
 protected:
  static constexpr int kThreads = 3;
  static constexpr int kEach = 50;

  // Both classes from several threads, with cancels and too few pages for all. Returns the record.
  std::string record(ServingEngineOptions options) {
    options.record_path = folder_.path("record.jsonl");
    auto engine = start(24, options);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread)
      threads.emplace_back([this, &engine, thread] { submit_some(*engine, thread); });
    for (auto& thread : threads)
      thread.join();
    engine->drain();
    sink_.wait_for_ends(kThreads * kEach);
    snapshot_ = engine->snapshot();
    engine.reset();
    std::ostringstream text;
    text << std::ifstream(options.record_path).rdbuf();
    return std::move(text).str();
  }

  void submit_some(ServingEngine& engine, int thread) const {
    Rng rng(thread + 1);
    for (int i = 0; i < kEach; ++i) {
      const auto id = static_cast<std::uint64_t>(thread * kEach + i);
      std::vector<sched::Request> group;
      sched::Request& each = group.emplace_back(
          request(id, 1 + static_cast<int>(rng.below(80)), 1 + static_cast<int>(rng.below(40))));
      if (rng.below(3) == 0) each.request_class = sched::RequestClass::kBestEffort;
      each.priority = static_cast<int>(rng.below(3)) - 1;
      ASSERT_TRUE(engine.submit(std::move(group)).ok());
      if (rng.below(4) == 0) engine.cancel(RequestId{rng.below(kThreads * kEach)});
    }
  }

  // Of all steps that the record says are finished.
  static std::uint64_t recorded_experts(const std::string& text) {
    std::uint64_t experts = 0;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const auto json = parse_json(line);
      EXPECT_TRUE(json.ok());
      if (!json->contains("events")) continue;
      for (const Json& event : json->at("events"))
        experts += event.contains("finished") ? event.at("experts").get<std::uint64_t>() : 0;
    }
    return experts;
  }

  void decides_the_same_again(double target_itl_ms);

  TemporaryFolder folder_;
  cluster::EngineSnapshot snapshot_;
};

void EngineReplayTest::decides_the_same_again(double target_itl_ms) {
  ServingEngineOptions options;
  options.scheduler.order_options.aging_auto = true;
  options.scheduler.former_options.target_itl_ms = target_itl_ms;
  options.scheduler.former_options.drain_steps = 2;
  const std::string text = record(options);
  EXPECT_TRUE(snapshot_.step_times);  // so they took part in the decisions
  EXPECT_NE(text.find("\"cancel\""), std::string::npos);
  const std::uint64_t experts = recorded_experts(text);
  EXPECT_GT(experts, 0U);
  EXPECT_LE(experts, snapshot_.distinct_experts);  // steps that were given up read some too
  std::istringstream in(text);
  const auto report = sched::replay(in);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GE(report->plans, snapshot_.steps);
  EXPECT_GE(report->orders, std::uint64_t{kThreads * kEach});
  // And so does the simulator, with its own executor.
  std::istringstream again(text);
  const auto simulated = sim::replay_record(again);
  ASSERT_TRUE(simulated.ok()) << simulated.error().message;
  EXPECT_EQ(simulated->plans, report->plans);
  EXPECT_EQ(simulated->orders, report->orders);
}

TEST_F(EngineReplayTest, TakesTheSameDecisionsAgain) {
  decides_the_same_again(0);
  EXPECT_GT(snapshot_.evictions, 0U);
}

// A target that slow machines cannot meet at all.
TEST_F(EngineReplayTest, TakesTheSameDecisionsAgainUnderATarget) {
  decides_the_same_again(0.5);
}

TEST_F(EngineReplayTest, OtherRulesDecideOtherwise) {
  std::string text = record({});
  const std::size_t former = text.find("\"former\":\"gimbal\"");
  ASSERT_NE(former, std::string::npos);
  text.replace(former, 17, "\"former\":\"tgi\"");
  std::istringstream in(text);
  EXPECT_FALSE(sched::replay(in).ok());
}

}  // namespace
}  // namespace gimbal::engine
