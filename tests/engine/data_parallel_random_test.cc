// Several engines as one under random faults: whatever fails, hangs or is cancelled, every request
// ends once, and what it was told is what one engine alone would have told it.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "engine/data_parallel_engine.h"
#include "engine_fixture.h"
#include "policy/dispatch.h"

namespace gimbal::engine {
namespace {

using sched::FinishReason;

constexpr int kClients = 2;
constexpr int kGroups = 20;  // of requests, that each client submits

// What happens to the engine that tells tokens, when engines have done so that often.
struct Faults {
  std::set<int> throws_at;
  std::optional<int> hangs_at;
};

// Passes on to a collector, carries the faults out, and counts what is under way. Thread-safe.
class FaultySink final : public cluster::TokenSink {
 public:
  FaultySink(Collector& collector, const Faults& faults) : collector_(collector), faults_(faults) {}

  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    const bool tokens =
        std::ranges::any_of(outputs, [](const auto& each) { return each.token.has_value(); });
    const auto ends =
        std::ranges::count_if(outputs, [](const auto& each) { return each.finish.has_value(); });
    collector_.on_outputs(outputs);
    std::unique_lock lock(mutex_);
    outstanding_ -= static_cast<int>(ends);
    calls_ += tokens ? 1 : 0;
    const bool hangs = tokens && calls_ == faults_.hangs_at;
    hanging_ = hanging_ || hangs;
    changed_.notify_all();
    if (tokens && faults_.throws_at.contains(calls_)) {
      ++thrown_;
      throw std::runtime_error("a fault of the test");
    }
    if (hangs) changed_.wait(lock, [this] { return released_; });
  }

  // Requests are submitted, or were refused.
  void add(int requests) {
    const std::lock_guard lock(mutex_);
    outstanding_ += requests;
    changed_.notify_all();
  }
  // Until engines have told tokens so often, or nothing may come any more.
  void wait_for_calls(int calls) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_ >= calls || outstanding_ == 0 || hanging_; });
  }
  // True: an engine hangs; else all requests have ended.
  [[nodiscard]] bool wait_for_hang_or_ends() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return outstanding_ == 0 || hanging_; });
    return hanging_;
  }
  void wait_for_ends() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return outstanding_ == 0; });
  }
  void release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  [[nodiscard]] int thrown() {
    const std::lock_guard lock(mutex_);
    return thrown_;
  }

 private:
  Collector& collector_;
  const Faults faults_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  int calls_ = 0;
  int outstanding_ = 0;
  int thrown_ = 0;
  bool hanging_ = false;
  bool released_ = false;
};

// What clients did.
struct Asked {
  std::map<RequestId, sched::Request> accepted;
  std::set<RequestId> refused;
  std::set<RequestId> cancelled;
};

class DataParallelFaults : public EngineFixture {
 protected:
  struct Round {
    DataParallelOptions options;
    Faults faults;
    bool dies = false;  // an engine that hangs is not released before it was given up
  };

  Round random_round(bool late, RankWorkers workers, Rng& rng) const {
    Round round;
    EngineFleetOptions& fleet = round.options.fleet;
    fleet.engines = 2 + static_cast<int>(rng.below(3));
    fleet.workers = workers;
    fleet.pin = false;
    fleet.pace = static_cast<cluster::GangPace>(rng.below(3));
    if (rng.below(3) == 0) fleet.expert_parallel_size = 1;
    fleet.engine.scheduler.max_num_batched_tokens = 64;
    fleet.engine.scheduler.max_num_seqs = 8;
    fleet.engine.scheduler.max_model_len = 128;
    fleet.engine.kv_cache_bytes = (rng.below(2) == 0 ? 24 : 256) *
                                  model::KvStorage::page_bytes(model_->config(), model_->dtype());
    fleet.engine.dead_after = std::chrono::minutes(10);
    const auto rules = policy::dispatch_names();
    round.options.dispatch.rule = std::string(rules[rng.below(rules.size())]);
    round.options.dispatch.late = late;
    const std::uint64_t throws = rng.below(static_cast<std::uint64_t>(fleet.engines) + 1);
    for (std::uint64_t i = 0; i < throws; ++i)
      round.faults.throws_at.insert(1 + static_cast<int>(rng.below(60)));
    if (rng.below(3) == 0) round.faults.hangs_at = 1 + static_cast<int>(rng.below(60));
    return round;
  }

  // One engine hangs for good, and at least one other is left.
  Round deadly_round(bool late, RankWorkers workers, Rng& rng) const {
    Round round = random_round(late, workers, rng);
    EngineFleetOptions& fleet = round.options.fleet;
    fleet.engines = 3;
    fleet.expert_parallel_size = rng.below(3) == 0 ? 1 : 3;
    fleet.engine.dead_after = std::chrono::seconds(3);
    round.faults = {.throws_at = {}, .hangs_at = 1 + static_cast<int>(rng.below(30))};
    if (rng.below(2) == 0) round.faults.throws_at.insert(31 + static_cast<int>(rng.below(60)));
    round.dies = true;
    return round;
  }

  sched::Request random_request(std::uint64_t id, Rng& rng) const {
    sched::Request made =
        request(id, 1 + static_cast<int>(rng.below(90)), 1 + static_cast<int>(rng.below(20)));
    if (rng.below(3) == 0) made.request_class = sched::RequestClass::kBestEffort;
    made.user_key = 1 + rng.below(4);
    return made;
  }

  static void submit(DataParallelEngine& engine, FaultySink& sink,
                     const std::vector<sched::Request>& group, Asked& asked) {
    sink.add(static_cast<int>(group.size()));
    const auto taken = engine.submit(group);
    if (!taken.ok()) sink.add(-static_cast<int>(group.size()));
    for (const sched::Request& request : group) {
      if (taken.ok()) {
        asked.accepted.emplace(request.id, request);
      } else {
        asked.refused.insert(request.id);
      }
    }
  }

  // Submits groups of one or two and cancels some, its own and the other clients'.
  void be_client(DataParallelEngine& engine, FaultySink& sink, int client, Rng rng, Asked& asked) {
    constexpr std::uint64_t kMost = 2 * kGroups;
    for (std::uint64_t i = 0; i < kGroups; ++i) {
      const std::uint64_t id = static_cast<std::uint64_t>(client) * kMost + 2 * i;
      std::vector<sched::Request> group{random_request(id, rng)};
      if (rng.below(4) == 0) {
        group.push_back(random_request(id + 1, rng));
        group.back().request_class = group.front().request_class;
      }
      submit(engine, sink, group, asked);
      if (rng.below(5) == 0) {
        const RequestId any{rng.below(kClients * kMost)};
        asked.cancelled.insert(any);
        engine.cancel(any);
      }
      if (rng.below(2) == 0) sink.wait_for_calls(static_cast<int>(3 * i + rng.below(4)));
    }
  }

  // All clients at once.
  Asked ask(DataParallelEngine& engine, FaultySink& sink, Rng& rng) {
    std::vector<Asked> asked(kClients);
    std::vector<std::thread> threads;
    for (int client = 0; client < kClients; ++client) {
      threads.emplace_back([&, client, seed = rng.below(~std::uint64_t{0})] {
        be_client(engine, sink, client, Rng(seed), asked[static_cast<std::size_t>(client)]);
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    for (int client = 1; client < kClients; ++client) {
      asked[0].accepted.merge(asked[static_cast<std::size_t>(client)].accepted);
      asked[0].refused.merge(asked[static_cast<std::size_t>(client)].refused);
      asked[0].cancelled.merge(asked[static_cast<std::size_t>(client)].cancelled);
    }
    return std::move(asked[0]);
  }

  std::map<RequestId, std::vector<TokenId>> alone(const Asked& asked) {
    DataParallelOptions options{.fleet = {.engines = 1}};
    options.fleet.engine.scheduler.max_model_len = 128;
    Collector sink;
    auto engine = DataParallelEngine::start(*model_, options, pool_, sink).value();
    for (const auto& [id, request] : asked.accepted)
      EXPECT_TRUE(engine->submit({request}).ok());
    sink.wait_for_ends(asked.accepted.size());
    std::map<RequestId, std::vector<TokenId>> tokens;
    for (const auto& [id, story] : sink.stories())
      tokens[id] = story.tokens;
    return tokens;
  }

  // What the engine's requests were told. `spared`: an engine was left to the end.
  void expect_right(const Asked& asked, const std::map<RequestId, Collector::Story>& stories,
                    bool faults, bool spared) {
    const auto expected = alone(asked);
    for (const auto& [id, request] : asked.accepted) {
      SCOPED_TRACE(testing::Message() << "request " << id.value());
      ASSERT_TRUE(stories.contains(id));
      const Collector::Story& story = stories.at(id);
      const std::vector<TokenId>& whole = expected.at(id);
      ASSERT_LE(story.tokens.size(), whole.size());
      EXPECT_TRUE(std::ranges::equal(story.tokens, std::span(whole).first(story.tokens.size())));
      ASSERT_TRUE(story.finish);
      if (*story.finish == FinishReason::kCancelled) {
        EXPECT_TRUE(asked.cancelled.contains(id));
      } else if (*story.finish == FinishReason::kFailed) {
        EXPECT_TRUE(faults);
        // Else another engine would have had it.
        EXPECT_TRUE(!spared || !story.tokens.empty());
      } else {
        EXPECT_EQ(*story.finish, FinishReason::kLength);
        EXPECT_EQ(story.tokens.size(), whole.size());
      }
    }
    for (const RequestId id : asked.refused)
      EXPECT_FALSE(stories.contains(id)) << id.value();
    EXPECT_EQ(stories.size(), asked.accepted.size());
  }

  struct Totals {
    int thrown = 0;
    int hung = 0;
    int all_failed = 0;  // rounds
  };

  void play(const Round& round, Rng& rng, Totals& totals) {
    Collector collector;
    FaultySink sink(collector, round.faults);
    auto started = DataParallelEngine::start(*model_, round.options, pool_, sink);
    ASSERT_TRUE(started.ok()) << started.error().message;
    const std::unique_ptr<DataParallelEngine> engine = std::move(started).value();
    const Asked asked = ask(*engine, sink, rng);
    const bool hangs = sink.wait_for_hang_or_ends();
    if (!round.dies) sink.release();
    sink.wait_for_ends();
    const bool spared = engine->healthy(nullptr);
    // Also one that nobody made hang: a machine that stands still can make it look so.
    const bool given_up = std::ranges::any_of(engine->engine_status(),
                                              [](const auto& status) { return !status.healthy; });
    while (!engine->idle())  // a thread that failed says so after the ends of its requests
      std::this_thread::yield();
    for (const cluster::EngineStatus& status : engine->engine_status()) {
      EXPECT_EQ(status.view.ledger, policy::LedgerCounts{});
      if (status.healthy) {
        EXPECT_EQ(status.snapshot.pages_referenced, 0);
      }
    }
    sink.release();
    totals.thrown += sink.thrown();
    totals.hung += hangs ? 1 : 0;
    totals.all_failed += spared ? 0 : 1;
    const bool faults = sink.thrown() > 0 || (round.dies && (hangs || given_up));
    expect_right(asked, collector.stories(), faults, spared);
  }
};

TEST_F(DataParallelFaults, EveryRequestEndsOnceWhateverFails) {
  Totals totals;
  for (const bool late : {false, true}) {
    for (const RankWorkers workers : {RankWorkers::kShared, RankWorkers::kOwn}) {
      for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE(testing::Message() << (late ? "late, " : "early, ")
                                        << (workers == RankWorkers::kOwn ? "own" : "shared")
                                        << " workers, seed " << seed);
        Rng rng(seed);
        play(random_round(late, workers, rng), rng, totals);
      }
    }
  }
  EXPECT_GT(totals.thrown, 20);
  EXPECT_GT(totals.hung, 5);
  EXPECT_GT(totals.all_failed, 0);
}

TEST_F(DataParallelFaults, EveryRequestEndsOnceWhateverHangs) {
  Totals totals;
  for (const bool late : {false, true}) {
    for (const RankWorkers workers : {RankWorkers::kShared, RankWorkers::kOwn}) {
      for (std::uint64_t seed = 1; seed <= 2; ++seed) {
        SCOPED_TRACE(testing::Message() << (late ? "late, " : "early, ")
                                        << (workers == RankWorkers::kOwn ? "own" : "shared")
                                        << " workers, seed " << seed);
        Rng rng(seed);
        play(deadly_round(late, workers, rng), rng, totals);
      }
    }
  }
  EXPECT_GT(totals.hung, 4);
}

}  // namespace
}  // namespace gimbal::engine
