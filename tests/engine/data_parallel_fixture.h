#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/random.h"
#include "engine/data_parallel_engine.h"
#include "engine_fixture.h"

namespace gimbal::engine {

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

}  // namespace gimbal::engine
