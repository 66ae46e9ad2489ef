#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "live/live_engine.h"
#include "sim/testbed_fixture.h"

namespace gimbal::live {

// What was told of one request, and when.
struct Told {
  std::vector<TokenId> tokens;
  std::vector<Duration> times;
  std::optional<sched::FinishReason> finish;
  std::optional<ErrorCode> refused;
  std::int32_t cached = 0;
};

class Sink final : public cluster::TokenSink {
 public:
  explicit Sink(const Clock& clock) : clock_(clock) {}
  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    const std::lock_guard lock(mutex_);
    for (const cluster::TokenOutput& output : outputs) {
      Told& told = told_[output.request];
      EXPECT_FALSE(told.finish.has_value());
      if (output.token) {
        told.tokens.push_back(*output.token);
        told.times.push_back(clock_.now().time_since_epoch());
      }
      told.cached = output.cached_tokens;
      told.refused = output.refused;
      if (output.finish) told.finish = output.finish;
    }
  }
  [[nodiscard]] Told of(std::uint64_t id) const {
    const std::lock_guard lock(mutex_);
    const auto found = told_.find(RequestId{id});
    return found == told_.end() ? Told() : found->second;
  }

 private:
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::map<RequestId, Told> told_;
};

// Three sentences of two tokens each.
inline AnswerText text_of(int mean_tokens = 5) {
  return {.sentences = {{10, 11}, {20, 21}, {30, 31}}, .end_token = 99, .mean_tokens = mean_tokens};
}

inline sched::Request request_of(std::uint64_t id, int prompt, int max_tokens, TokenId first = 1) {
  sched::Request request;
  request.id = RequestId{id};
  for (int i = 0; i < prompt; ++i)
    request.prompt.push_back(first + i % 900);
  request.max_tokens = max_tokens;
  return request;
}

// A plain cluster on a clock that the test moves.
class LiveEngineTest : public ::testing::Test {
 protected:
  struct Plan {
    int engines = 1;
    int ranks = 1;
    double time_scale = 1;
    std::vector<sim::ScriptEvent> script = {};
    std::int64_t max_waiting = 0;
    bool late = false;
  };

  void start(const Plan& plan, const Clock& time) {
    sim::ClusterSpec spec = sim::uniform_cluster(plan.engines, plan.ranks).value();
    spec.script = plan.script;
    testbed = sim::plain_testbed(spec);
    sim::SystemOptions system = sim::plain_system("gimbal");
    system.dispatch.late = plan.late;
    if (plan.max_waiting > 0) system.scheduler.max_waiting_prefill_tokens = plan.max_waiting;
    sink.emplace(time);
    auto made = LiveEngine::make({.cluster = sim::cluster_options(*testbed, system).value(),
                                  .time_scale = plan.time_scale,
                                  .text = text_of()},
                                 time, *sink);
    ASSERT_TRUE(made.ok()) << made.error().message;
    engine = std::move(made).value();
  }
  void start(const Plan& plan) { start(plan, clock); }

  void submit(sched::Request request) {
    std::vector<sched::Request> group;
    group.push_back(std::move(request));
    const auto taken = engine->submit(std::move(group));
    ASSERT_TRUE(taken.ok()) << taken.error().message;
  }
  // Lets the clock go to when something happens, until nothing does; at most `limit`.
  void run(Duration limit = std::chrono::seconds(100)) {
    const TimePoint until = clock.now() + limit;
    for (auto next = engine->advance(); next && *next <= until; next = engine->advance())
      clock.set(*next);
    if (clock.now() < until) clock.set(until);
    engine->advance();
  }

  ManualClock clock;
  std::unique_ptr<sim::Testbed> testbed;
  std::optional<Sink> sink;
  std::unique_ptr<LiveEngine> engine;
};

}  // namespace gimbal::live
