// Engines that fail or hang: what becomes of their requests, and of the others.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "data_parallel_fixture.h"
#include "policy/dispatch.h"

namespace gimbal::engine {
namespace {

using sched::FinishReason;

using DataParallelFailureTest = DataParallelTest;

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

TEST_F(DataParallelFailureTest, AFailedEnginesRequestsGoToTheOther) {
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

TEST_F(DataParallelFailureTest, ACancelledRequestDoesNotGoToAnotherEngine) {
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

TEST_F(DataParallelFailureTest, WhileDrainingAFailedEnginesRequestsGoToTheOther) {
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

TEST_F(DataParallelFailureTest, WhenAllEnginesFailRequestsEndWithAnError) {
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

TEST_F(DataParallelFailureTest, RequestsOfAnEngineThatHangsGoOnWithoutIt) {
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

class HangingEngineTest : public DataParallelFailureTest {
 protected:
  // Engine 0 hangs with the first request, of which a token was told, and another waits behind it;
  // nobody asks for more.
  std::unique_ptr<DataParallelEngine> hang_engine_0(EngineFleetOptions fleet) {
    DataParallelOptions options{.fleet = std::move(fleet)};
    options.fleet.engines = 2;
    options.fleet.engine.dead_after = std::chrono::seconds(5);
    options.dispatch.rule = "round-robin";
    auto engine = start_several(options, &hanging_);
    EXPECT_TRUE(engine->submit({request(0, 60, 30)}).ok());
    EXPECT_TRUE(engine->submit({request(1, 2, 1)}).ok());
    EXPECT_TRUE(engine->submit({request(2, 100, 20)}).ok());
    sink_.wait_for_ends(3);
    EXPECT_EQ(sink_.stories().at(RequestId{0}).finish, FinishReason::kFailed);
    EXPECT_EQ(sink_.stories().at(RequestId{1}).finish, FinishReason::kLength);
    EXPECT_EQ(sink_.stories().at(RequestId{2}).finish, FinishReason::kLength);
    return engine;
  }

  HangingSink hanging_{sink_, RequestId{0}};
};

TEST_F(HangingEngineTest, ItsRequestsGoOnThoughNobodyAsksForMore) {
  // The other one does not wait for it.
  auto engine = hang_engine_0({.pace = cluster::GangPace::kImmediate});
  hanging_.release();
}

TEST_F(HangingEngineTest, EnginesThatShareNoExpertsLookAfterEachOther) {
  auto engine = hang_engine_0({.expert_parallel_size = 1});
  EXPECT_TRUE(engine->healthy(nullptr));
  EXPECT_FALSE(engine->engine_status().at(0).healthy);
  EXPECT_EQ(engine->snapshots().at(0).running_requests, 0);
  hanging_.release();
}

TEST_F(DataParallelFailureTest, AnEngineThatHangsGetsNothingMore) {
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
