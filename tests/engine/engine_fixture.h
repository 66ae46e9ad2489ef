#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/random.h"
#include "engine/serving_engine.h"
#include "models/tiny_model.h"

namespace gimbal::engine {

// Collects what a request got. Thread-safe.
class Collector final : public cluster::TokenSink {
 public:
  struct Story {
    std::vector<TokenId> tokens;
    std::vector<sched::TokenLogprobs> logprobs;         // of the tokens, where asked for
    std::vector<sched::TokenLogprobs> prompt_logprobs;  // likewise
    std::optional<sched::FinishReason> finish;
    cluster::ExpertRows expert_rows;
  };

  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !held_; });
      for (const cluster::TokenOutput& output : outputs) {
        Story& story = stories_[output.request];
        EXPECT_FALSE(story.finish) << "an output after the end";
        if (output.token) story.tokens.push_back(*output.token);
        if (output.logprobs) story.logprobs.push_back(std::move(*output.logprobs));
        std::ranges::move(output.prompt_logprobs, std::back_inserter(story.prompt_logprobs));
        if (output.finish) {
          story.finish = output.finish;
          story.expert_rows = output.expert_rows;
          ++ended_;
        }
      }
    }
    changed_.notify_all();
  }

  // From now on the engine's thread stops at its next outputs, until the release.
  void hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  void release() {
    {
      const std::lock_guard lock(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }

  void wait_for_ends(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ >= count; });
  }
  void wait_for_tokens(RequestId request, std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stories_[request].tokens.size() >= count; });
  }
  void wait_for_end(RequestId request) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stories_[request].finish.has_value(); });
  }
  [[nodiscard]] std::map<RequestId, Story> stories() {
    const std::lock_guard lock(mutex_);
    return stories_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<RequestId, Story> stories_;
  std::size_t ended_ = 0;
  bool held_ = false;
};

// Engines on a tiny model with pages for a few requests.
class EngineFixture : public ::testing::Test {
 protected:
  std::unique_ptr<ServingEngine> start(int kv_pages = 256, ServingEngineOptions options = {}) {
    options.scheduler.max_num_batched_tokens = 64;
    options.scheduler.max_num_seqs = 8;
    options.scheduler.max_model_len = 128;
    options.kv_cache_bytes =
        kv_pages * model::KvStorage::page_bytes(model_->config(), model_->dtype());
    auto started = ServingEngine::start(*model_, options, pool_, sink_);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return std::move(started).value();
  }

  sched::Request request(std::uint64_t id, int prompt, int max_tokens) const {
    sched::Request made{.id = RequestId{id}, .max_tokens = max_tokens};
    Rng rng(id % 5);  // some share their prompts
    for (int i = 0; i < prompt; ++i) {
      made.prompt.push_back(static_cast<TokenId>(rng.below(model_->config().vocab_size)));
    }
    made.sampling.seed = id % 5;
    made.sampling.ignore_eos = true;
    return made;
  }

  ThreadPool pool_{{.workers = 2, .pin = false}};
  std::unique_ptr<model::Model> model_ = tests::make_and_load(
      tests::tiny_options(synthetic::Family::kQwen3Moe), tensor::DType::kBF16, pool_);
  Collector sink_;
};

}  // namespace gimbal::engine
