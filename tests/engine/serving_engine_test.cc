// The engine with its thread: whatever is submitted and cancelled from whichever threads, every
// request ends once, tokens do not depend on the company, and all pages come back.

#include "engine/serving_engine.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/random.h"
#include "engine_fixture.h"

namespace gimbal::engine {
namespace {

using sched::FinishReason;
using ServingEngineTest = EngineFixture;

ServingEngineOptions with_queue_bound(std::int64_t tokens) {
  ServingEngineOptions options;
  options.scheduler.max_waiting_prefill_tokens = tokens;
  return options;
}

TEST_F(ServingEngineTest, EqualRequestsGetEqualTokensInAnyCompany) {
  auto engine = start();
  for (std::uint64_t id = 0; id < 20; ++id)
    ASSERT_TRUE(engine->submit({request(id, 40, 10)}).ok());
  sink_.wait_for_ends(20);
  const auto stories = sink_.stories();
  for (std::uint64_t id = 0; id < 20; ++id) {
    const auto& story = stories.at(RequestId{id});
    EXPECT_EQ(story.finish, FinishReason::kLength);
    ASSERT_EQ(story.tokens.size(), 10U);
    EXPECT_EQ(story.tokens, stories.at(RequestId{id % 5}).tokens) << id;
  }
  EXPECT_TRUE(engine->idle());
}

TEST_F(ServingEngineTest, RandomSubmitsAndCancelsFromManyThreadsLeakNothing) {
  auto engine = start(24);  // too few pages for all: some are evicted and computed again
  constexpr int kThreads = 3;
  constexpr int kEach = 60;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      Rng rng(thread);
      for (int i = 0; i < kEach; ++i) {
        const auto id = static_cast<std::uint64_t>(thread * kEach + i);
        ASSERT_TRUE(engine
                        ->submit({request(id, 1 + static_cast<int>(rng.below(90)),
                                          1 + static_cast<int>(rng.below(20)))})
                        .ok());
        if (rng.below(2) == 0) engine->cancel(RequestId{rng.below(kThreads * kEach)});
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  sink_.wait_for_ends(kThreads * kEach);
  EXPECT_EQ(sink_.stories().size(), static_cast<std::size_t>(kThreads * kEach));
  const cluster::EngineSnapshot snapshot = engine->snapshot();
  EXPECT_EQ(snapshot.pages_referenced, 0);
  EXPECT_EQ(snapshot.running_requests, 0);
  EXPECT_EQ(snapshot.waiting_requests, 0);
}

TEST_F(ServingEngineTest, CancelledRequestEndsEarly) {
  auto engine = start();
  ASSERT_TRUE(engine->submit({request(1, 8, 100)}).ok());
  sink_.wait_for_tokens(RequestId{1}, 2);
  engine->cancel(RequestId{1});
  sink_.wait_for_ends(1);
  const auto story = sink_.stories().at(RequestId{1});
  // It may have ended by itself on a machine that stood still for a while; then it is whole.
  if (story.finish == FinishReason::kLength) {
    EXPECT_EQ(story.tokens.size(), 100U);
  } else {
    EXPECT_EQ(story.finish, FinishReason::kCancelled);
  }
}

TEST_F(ServingEngineTest, RefusesWhatItCannotServe) {
  auto engine = start();
  EXPECT_EQ(engine->submit({request(1, 0, 1)}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(engine->submit({request(2, 100, 29)}).error().code, ErrorCode::kInvalidArgument);
  sched::Request foreign = request(3, 4, 4);
  foreign.prompt[2] = static_cast<TokenId>(model_->config().vocab_size);
  EXPECT_EQ(engine->submit({request(9, 4, 4), foreign}).error().code, ErrorCode::kInvalidArgument);
  engine->drain();
  EXPECT_EQ(engine->submit({request(4, 4, 4)}).error().code, ErrorCode::kUnavailable);
}

TEST_F(ServingEngineTest, AnIdleEngineTakesAGroupBeyondTheQueueBoundWhole) {
  auto engine = start(256, with_queue_bound(50));
  std::vector<sched::Request> group;
  for (std::uint64_t id = 0; id < 5; ++id)
    group.push_back(request(id, 40, 3));
  ASSERT_TRUE(engine->submit(std::move(group)).ok());
  sink_.wait_for_ends(5);
  for (const auto& [id, story] : sink_.stories())
    EXPECT_EQ(story.tokens.size(), 3U) << id.value();
  EXPECT_TRUE(engine->idle());
}

TEST_F(ServingEngineTest, AGroupThatDoesNotFitTheQueueIsRefusedWhole) {
  auto engine = start(256, with_queue_bound(100));
  sink_.hold();  // the engine stands after its first token: more waits than it may run at once
  std::vector<sched::Request> waiting;
  for (std::uint64_t id = 0; id < 12; ++id)
    waiting.push_back(request(id, 100 + static_cast<int>(id % 5), 20));
  ASSERT_TRUE(engine->submit(std::move(waiting)).ok());
  const auto refused = engine->submit({request(12, 120, 1), request(13, 120, 1)});
  sink_.release();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  sink_.wait_for_ends(12);
  EXPECT_EQ(sink_.stories().size(), 12U);
  EXPECT_TRUE(engine->idle());
}

TEST_F(ServingEngineTest, StoppingEndsWhatRuns) {
  auto engine = start();
  for (std::uint64_t id = 0; id < 6; ++id)
    ASSERT_TRUE(engine->submit({request(id, 60, 60)}).ok());
  engine.reset();
  sink_.wait_for_ends(6);
  EXPECT_EQ(sink_.stories().size(), 6U);
}

TEST_F(ServingEngineTest, TooSmallACacheIsAnErrorThatNamesTheOption) {
  ServingEngineOptions options;
  options.scheduler.max_model_len = 128;
  options.kv_cache_bytes = 1000;
  const auto started = ServingEngine::start(*model_, options, pool_, sink_);
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().field, "kv_cache_memory_bytes");
}

}  // namespace
}  // namespace gimbal::engine
