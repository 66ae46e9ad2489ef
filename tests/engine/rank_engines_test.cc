// Engines that share their experts, each with its scheduler and thread: a request gets the same
// tokens whichever of them runs it, at any pace, and survives what the others suffer.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine/expert_group.h"
#include "engine/gang_driver.h"
#include "engine_fixture.h"

namespace gimbal::engine {
namespace {

constexpr int kMaxRows = 64;

struct Shape {
  int ranks = 2;
  cluster::GangPace pace = cluster::GangPace::kGang;
  bool shared = true;
  Duration dead_after = std::chrono::minutes(10);
  Duration least_wait = cluster::GangCoordinatorOptions{}.least_wait;
  bool to_the_end = false;
};

// Fails the engine's thread when it tells of a certain request.
class ThrowingSink final : public cluster::TokenSink {
 public:
  ThrowingSink(cluster::TokenSink& next, RequestId poison) : next_(next), poison_(poison) {}
  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    for (const cluster::TokenOutput& output : outputs) {
      if (output.request == poison_ && !output.finish) throw std::runtime_error("poisoned");
    }
    next_.on_outputs(outputs);
  }

 private:
  cluster::TokenSink& next_;
  RequestId poison_;
};

// Stops the engine's thread when it tells of a cancelled request, until it is let go.
class StallingSink final : public cluster::TokenSink {
 public:
  explicit StallingSink(cluster::TokenSink& next) : next_(next) {}
  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    const bool stalls = std::ranges::any_of(outputs, [](const cluster::TokenOutput& output) {
      return output.finish == sched::FinishReason::kCancelled;
    });
    const int releases = releases_.load();
    // Before the end is known, after which it may be armed for the next one.
    const bool stalls_now = stalls && armed_.exchange(false);
    next_.on_outputs(outputs);
    if (stalls_now) releases_.wait(releases);
  }
  void stall() { armed_ = true; }
  void release() {
    armed_ = false;
    releases_.fetch_add(1);
    releases_.notify_all();
  }

 private:
  cluster::TokenSink& next_;
  std::atomic<bool> armed_{false};
  std::atomic<int> releases_{0};
};

std::vector<std::array<int, 3>> some_requests() {
  std::vector<std::array<int, 3>> requests;  // id, prompt, output
  Rng rng(5);
  for (int id = 1; id <= 14; ++id) {
    requests.push_back(
        {id, 1 + static_cast<int>(rng.below(90)), 1 + static_cast<int>(rng.below(24))});
  }
  return requests;
}

class RankEngines : public EngineFixture {
 protected:
  void start_group(const Shape& shape, cluster::TokenSink* sink_of_first = nullptr) {
    auto group = ExpertGroup::make(*model_,
                                   {.ranks = shape.ranks,
                                    .executor = {.max_batch_rows = kMaxRows},
                                    .shared_workers = shape.shared},
                                   clock_);
    ASSERT_TRUE(group.ok()) << group.error().message;
    group_ = std::move(group).value();
    auto gang = GangDriver::make({.coordinator = {.pace = shape.pace,
                                                  .ranks = shape.ranks,
                                                  .layers = model_->config().num_layers(),
                                                  .least_wait = shape.least_wait,
                                                  .to_the_end = shape.to_the_end}},
                                 clock_);
    ASSERT_TRUE(gang.ok()) << gang.error().message;
    gang_ = std::move(gang).value();
    if (before_start_) before_start_();
    for (int rank = 0; rank < shape.ranks; ++rank) {
      ServingEngineOptions options;
      options.scheduler.max_num_batched_tokens = kMaxRows;
      options.scheduler.max_num_seqs = 8;
      options.scheduler.max_model_len = 128;
      options.kv_cache_bytes = 64 * model::KvStorage::page_bytes(model_->config(), model_->dtype());
      options.pin = false;
      options.dead_after = shape.dead_after;
      if (!shape.shared) {
        pools_.push_back(
            std::make_unique<ThreadPool>(ThreadPoolOptions{.workers = 1, .pin = false}));
      }
      const GroupSeat seat{*group_, *gang_, Rank{rank}};
      cluster::TokenSink& sink = rank == 0 && sink_of_first != nullptr ? *sink_of_first : sink_;
      auto engine = ServingEngine::start(*model_, options, shape.shared ? pool_ : *pools_.back(),
                                         sink, &seat);
      ASSERT_TRUE(engine.ok()) << engine.error().message;
      engines_.push_back(std::move(engine).value());
    }
  }

  void stop_group() {
    engines_.clear();
    gang_.reset();
    group_.reset();
    pools_.clear();
  }

  void submit(std::size_t engine, std::uint64_t id, int prompt, int max_tokens) {
    const auto taken = engines_[engine]->submit({request(id, prompt, max_tokens)});
    ASSERT_TRUE(taken.ok()) << taken.error().message;
  }

  // What one engine alone says to these requests.
  std::map<RequestId, std::vector<TokenId>> alone(const std::vector<std::array<int, 3>>& requests) {
    Collector sink;
    ServingEngineOptions options;
    options.scheduler.max_num_batched_tokens = kMaxRows;
    options.scheduler.max_model_len = 128;
    auto engine = ServingEngine::start(*model_, options, pool_, sink);
    EXPECT_TRUE(engine.ok());
    for (const auto& [id, prompt, tokens] : requests) {
      EXPECT_TRUE(
          (*engine)->submit({request(static_cast<std::uint64_t>(id), prompt, tokens)}).ok());
    }
    sink.wait_for_ends(requests.size());
    std::map<RequestId, std::vector<TokenId>> tokens;
    for (const auto& [id, story] : sink.stories())
      tokens[id] = story.tokens;
    return tokens;
  }

  void a_hanging_rank_is_declared_dead(const Shape& shape) {
    const auto requests = some_requests();
    const auto expected = alone(requests);
    Collector hanging;
    hanging.hold();
    start_group(shape, &hanging);
    submit(0, 900, 10, 3);  // its thread stops when it tells of the first token
    for (const auto& [id, prompt, tokens] : requests)
      submit(1, static_cast<std::uint64_t>(id), prompt, tokens);
    sink_.wait_for_ends(requests.size());
    // Found even by one who has nothing to do.
    const TimePoint limit = clock_.now() + std::chrono::minutes(2);
    while (group_->alive(Rank{0}) && clock_.now() < limit)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(group_->alive(Rank{0}));
    EXPECT_TRUE(group_->alive(Rank{1}));
    EXPECT_TRUE(group_->map()->taken_out(Rank{0}));
    EXPECT_EQ(engines_[0]->snapshot().running_requests, 0);
    submit(0, 901, 10, 3);
    hanging.release();  // and learns that it is dead
    hanging.wait_for_ends(2);
    EXPECT_EQ(hanging.stories().at(RequestId{900}).finish, sched::FinishReason::kFailed);
    EXPECT_EQ(hanging.stories().at(RequestId{901}).finish, sched::FinishReason::kFailed);
    stop_group();
    const auto stories = sink_.stories();
    for (const auto& [id, prompt, tokens] : requests) {
      EXPECT_EQ(stories.at(RequestId{static_cast<std::uint64_t>(id)}).tokens,
                expected.at(RequestId{static_cast<std::uint64_t>(id)}));
    }
  }

  std::function<void()> before_start_;  // of engines, when their group is there
  SteadyClock clock_;
  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::unique_ptr<ExpertGroup> group_;
  std::unique_ptr<GangDriver> gang_;
  std::vector<std::unique_ptr<ServingEngine>> engines_;
};

TEST_F(RankEngines, EveryPaceGivesTheTokensOfOneEngine) {
  const auto requests = some_requests();
  const auto expected = alone(requests);
  int round = 0;
  for (const int ranks : {2, 3}) {
    for (const cluster::GangPace pace :
         {cluster::GangPace::kGang, cluster::GangPace::kLockstep, cluster::GangPace::kImmediate}) {
      for (const auto& [shared, to_the_end] :
           {std::pair{true, true}, std::pair{true, false}, std::pair{false, false}}) {
        SCOPED_TRACE(testing::Message()
                     << ranks << " ranks, pace " << static_cast<int>(pace)
                     << (shared ? ", shared" : ", own") << (to_the_end ? ", to the end" : ""));
        start_group({.ranks = ranks, .pace = pace, .shared = shared, .to_the_end = to_the_end});
        const std::size_t before = sink_.stories().size();
        for (const auto& [id, prompt, tokens] : requests) {
          // The last rank stays idle.
          submit(static_cast<std::size_t>(id % std::max(1, ranks - 1)),
                 static_cast<std::uint64_t>(id + round * 1000), prompt, tokens);
        }
        sink_.wait_for_ends(before + requests.size());
        stop_group();
        const auto stories = sink_.stories();
        for (const auto& [id, prompt, tokens] : requests) {
          const auto& story = stories.at(RequestId{static_cast<std::uint64_t>(id + round * 1000)});
          EXPECT_EQ(story.finish, sched::FinishReason::kLength);
          EXPECT_EQ(story.tokens, expected.at(RequestId{static_cast<std::uint64_t>(id)}));
        }
        ++round;  // request() draws the same prompt for ids that differ by multiples of 5
      }
    }
  }
}

TEST_F(RankEngines, AnEndTellsWhichRanksRanTheRequestsRows) {
  const model_config::ModelConfig& config = model_->config();
  const double pairs_a_row = config.experts_per_token * config.moe_layers();
  std::uint64_t id = 0;
  for (const cluster::GangPace pace : {cluster::GangPace::kGang, cluster::GangPace::kLockstep}) {
    start_group({.ranks = 2, .pace = pace});
    submit(0, ++id, 20, 6);
    sink_.wait_for_ends(id);
    const cluster::ExpertRows rows = sink_.stories().at(RequestId{id}).expert_rows;
    ASSERT_EQ(rows.by_rank.size(), 2U);
    EXPECT_EQ(rows.by_rank[0] + rows.by_rank[1], 25 * pairs_a_row);
    EXPECT_EQ(rows.map, group_->map()->fingerprint());
    for (const int rank : {0, 1}) {
      // In lockstep the services have also run the idle rank's dummy rows.
      const double all = static_cast<double>(group_->station(Rank{rank}).counters().rows);
      const double own = rows.by_rank[static_cast<std::size_t>(rank)];
      EXPECT_GT(own, 0);
      if (pace == cluster::GangPace::kGang) {
        EXPECT_EQ(all, own);
      } else {
        EXPECT_GE(all, own);
      }
    }
    stop_group();
  }
}

TEST_F(RankEngines, CancelledRequestsLeaveTheOthersAlone) {
  const auto requests = some_requests();
  const auto expected = alone(requests);
  int round = 0;
  for (const cluster::GangPace pace :
       {cluster::GangPace::kGang, cluster::GangPace::kLockstep, cluster::GangPace::kImmediate}) {
    SCOPED_TRACE(static_cast<int>(pace));
    start_group({.ranks = 2, .pace = pace});
    const std::size_t before = sink_.stories().size();
    const auto id_of = [&](int id) { return static_cast<std::uint64_t>(id + round * 1000); };
    for (const auto& [id, prompt, tokens] : requests)
      submit(static_cast<std::size_t>(id % 2), id_of(id), prompt, tokens);
    for (const auto& [id, prompt, tokens] : requests) {
      if (id % 3 == 0) engines_[static_cast<std::size_t>(id % 2)]->cancel(RequestId{id_of(id)});
    }
    sink_.wait_for_ends(before + requests.size());
    stop_group();
    const auto stories = sink_.stories();
    for (const auto& [id, prompt, tokens] : requests) {
      const auto& story = stories.at(RequestId{id_of(id)});
      if (id % 3 != 0) {
        EXPECT_EQ(story.tokens, expected.at(RequestId{static_cast<std::uint64_t>(id)}));
      }
    }
    ++round;
  }
}

TEST_F(RankEngines, ADyingRankTakesNobodyWithIt) {
  const auto requests = some_requests();
  const auto expected = alone(requests);
  int round = 0;
  for (const cluster::GangPace pace :
       {cluster::GangPace::kGang, cluster::GangPace::kLockstep, cluster::GangPace::kImmediate}) {
    for (const bool shared : {true, false}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(pace) << (shared ? " shared" : " own"));
      const auto id_of = [&](int id) { return static_cast<std::uint64_t>(id + round * 1000); };
      const RequestId poison{id_of(900)};
      ThrowingSink throwing(sink_, poison);
      const std::size_t before = sink_.stories().size();
      start_group({.ranks = 3, .pace = pace, .shared = shared}, &throwing);
      for (const auto& [id, prompt, tokens] : requests)
        submit(static_cast<std::size_t>(1 + id % 2), id_of(id), prompt, tokens);
      submit(0, poison.value(), 40, 5);
      sink_.wait_for_ends(before + requests.size() + 1);
      EXPECT_FALSE(engines_[0]->healthy(nullptr));
      EXPECT_TRUE(engines_[1]->healthy(nullptr));
      EXPECT_FALSE(engines_[0]->submit({request(id_of(950), 4, 1)}).ok());
      // Its experts are the others' now.
      submit(1, id_of(960), 30, 3);
      sink_.wait_for_ends(before + requests.size() + 2);
      stop_group();
      const auto stories = sink_.stories();
      EXPECT_EQ(stories.at(poison).finish, sched::FinishReason::kFailed);
      for (const auto& [id, prompt, tokens] : requests) {
        EXPECT_EQ(stories.at(RequestId{id_of(id)}).tokens,
                  expected.at(RequestId{static_cast<std::uint64_t>(id)}));
      }
      ++round;
    }
  }
}

// Does `what` once, at the next decision after it was armed.
class FaultyPolicy final : public policy::ExpertQueuePolicy {
 public:
  FaultyPolicy(std::atomic<bool>& armed, std::function<void()> what)
      : armed_(armed), what_(std::move(what)) {}
  void choose(const policy::ExpertQueueView& view,
              policy::ExpertQueueDecision& decision) const override {
    if (armed_.exchange(false)) what_();
    rule_->choose(view, decision);
  }

 private:
  std::atomic<bool>& armed_;
  std::function<void()> what_;
  std::unique_ptr<policy::ExpertQueuePolicy> rule_ =
      policy::make_expert_queue_policy(policy::ExpertQueueRule{}).value();
};

TEST_F(RankEngines, WhoFailsWhileItRunsExpertsTakesItsGroupWithIt) {
  for (const int round : {0, 1, 2, 3, 4, 5, 6, 7}) {
    const bool shared = (round & 1) != 0;
    const bool hangs = (round & 2) != 0;
    const std::uint64_t ranks = (round & 4) != 0 ? 3 : 2;
    SCOPED_TRACE(testing::Message()
                 << (shared ? "shared " : "own ") << (hangs ? "hangs " : "throws ") << ranks);
    std::atomic<bool> armed{false};
    std::atomic<bool> released{false};
    const auto fault = [&] {
      if (!hangs) throw std::bad_alloc();
      released.wait(false);
    };
    before_start_ = [&] {
      group_->station(Rank{1}).set_policy(std::make_unique<FaultyPolicy>(armed, fault));
    };
    start_group({.ranks = static_cast<int>(ranks),
                 .pace = cluster::GangPace::kImmediate,
                 .shared = shared,
                 .dead_after = hangs ? Duration(std::chrono::seconds(5))
                                     : Duration(std::chrono::minutes(10))});
    const std::size_t before = sink_.stories().size();
    const std::uint64_t first = 1000 + before;
    sink_.hold();  // so that none ends before the fault
    for (std::uint64_t i = 0; i < 3 * ranks; ++i)
      submit(i % ranks, first + i, 20, 100);
    armed = true;
    sink_.release();
    // Also of who waits for the turn of the shared workers, which the one that hangs may have.
    const auto all_given_up = [&] {
      return std::ranges::none_of(engines_,
                                  [](const auto& engine) { return engine->healthy(nullptr); });
    };
    const TimePoint limit = clock_.now() + std::chrono::minutes(2);
    while (!all_given_up() && clock_.now() < limit)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(all_given_up());
    EXPECT_TRUE(group_->broken());
    released = true;
    released.notify_all();
    sink_.wait_for_ends(before + 3 * ranks);
    for (std::uint64_t i = 0; i < 3 * ranks; ++i)
      EXPECT_EQ(sink_.stories().at(RequestId{first + i}).finish, sched::FinishReason::kFailed);
    stop_group();
  }
}

TEST_F(RankEngines, AHangingRankIsDeclaredDead) {
  a_hanging_rank_is_declared_dead(
      {.pace = cluster::GangPace::kLockstep, .dead_after = std::chrono::seconds(5)});
}

TEST_F(RankEngines, AHangingRankIsDeclaredDeadWhereStepsAreWaitedForToTheEnd) {
  a_hanging_rank_is_declared_dead({.dead_after = std::chrono::seconds(5), .to_the_end = true});
}

TEST_F(RankEngines, AHangingRankIsDeclaredDeadWhereNobodyWaitsForIt) {
  a_hanging_rank_is_declared_dead(
      {.pace = cluster::GangPace::kImmediate, .dead_after = std::chrono::seconds(5)});
}

TEST_F(RankEngines, AHangingRankWithWorkersOfItsOwnIsDeclaredDead) {
  a_hanging_rank_is_declared_dead({.shared = false, .dead_after = std::chrono::seconds(5)});
}

TEST_F(RankEngines, RanksThatStepTogetherJoinGangs) {
  start_group({.ranks = 2, .least_wait = std::chrono::minutes(10)});
  sink_.hold();
  for (std::uint64_t id = 1; id <= 8; ++id)
    submit(id % 2, id, 20, 60);
  // Both say that they want a step before either gets far: whoever is first stands at the sink, and
  // the other waits for it, however slow the machine is.
  for (const auto& engine : engines_) {
    while (engine->snapshot().running_requests + engine->snapshot().waiting_requests == 0)
      std::this_thread::yield();
  }
  sink_.release();
  sink_.wait_for_ends(8);
  const cluster::GangCounters counters = gang_->counters();
  EXPECT_GT(counters.gang_steps, 0U);
  EXPECT_EQ(counters.joins, 2 * counters.gang_steps);
  EXPECT_GT(group_->station(Rank{0}).counters().holds, 0U);
  EXPECT_GT(group_->station(Rank{1}).counters().rows, 0U);
  stop_group();
}

// Between two stages: the layers that follow come when the others have gone on without it.
TEST_F(RankEngines, ARankThatStallsInMidStepIsNotWaitedFor) {
  const auto requests = some_requests();
  const auto expected = alone(requests);
  StallingSink stalling(sink_);
  start_group({.ranks = 2}, &stalling);
  std::size_t ends = 0;
  std::map<std::uint64_t, RequestId> same;  // as which request of `requests`
  std::uint64_t next_id = 1000;
  const auto submit_like = [&](std::size_t engine, const std::array<int, 3>& like) {
    const std::uint64_t id = next_id + static_cast<std::uint64_t>(like[0]);  // draws its prompt
    same.emplace(id, RequestId{static_cast<std::uint64_t>(like[0])});
    submit(engine, id, like[1], like[2]);
  };
  // Without times of steps nobody knows when a rank is late.
  while (!engines_[0]->snapshot().step_times || !engines_[1]->snapshot().step_times) {
    for (const auto& each : requests)
      submit_like(static_cast<std::size_t>(each[0] % 2), each);
    sink_.wait_for_ends(ends += requests.size());
    next_id += 1000;
  }
  const auto late = [&] {
    return gang_->counters().leaves[static_cast<std::size_t>(cluster::LeaveReason::kLate)];
  };
  // The cancel may also come between two steps, or in one that the rank runs alone.
  for (int attempt = 0; attempt < 200 && late() == 0; ++attempt) {
    stalling.stall();
    const RequestId victim{next_id + 900};
    submit(0, victim.value(), 20, 100);
    for (const auto& each : requests)
      submit_like(static_cast<std::size_t>(each[0] % 2), each);
    sink_.wait_for_tokens(victim, 1 + static_cast<std::size_t>(attempt) % 3);
    engines_[0]->cancel(victim);
    // Rank 1 has no more than its own requests, and gets done with them.
    for (const auto& [id, prompt, tokens] : requests) {
      if (id % 2 == 1) sink_.wait_for_end(RequestId{next_id + static_cast<std::uint64_t>(id)});
    }
    stalling.release();
    sink_.wait_for_ends(ends += requests.size() + 1);
    next_id += 1000;
  }
  EXPECT_GT(late(), 0U);
  EXPECT_GT(gang_->counters().gang_steps, 0U);
  stop_group();
  const auto stories = sink_.stories();
  for (const auto& [id, like] : same)
    EXPECT_EQ(stories.at(RequestId{id}).tokens, expected.at(like)) << id;
}

std::uint64_t count(const DurationHistogram::Reading& reading) {
  return std::accumulate(reading.counts.begin(), reading.counts.end(), std::uint64_t{0});
}

TEST_F(RankEngines, ServicesTellHowLongRunsTookAndRowsWaited) {
  start_group({.ranks = 2, .least_wait = std::chrono::minutes(10)});
  sink_.hold();
  for (std::uint64_t id = 1; id <= 4; ++id)
    submit(id % 2, id, 20, 20);
  sink_.release();
  sink_.wait_for_ends(4);
  for (int rank = 0; rank < 2; ++rank) {
    const ExpertStation& station = group_->station(Rank{rank});
    const ExpertStation::Counters done = station.counters();
    const DurationHistogram::Reading runs = station.service().run_times();
    EXPECT_EQ(count(runs), done.runs);
    EXPECT_EQ(runs.sum, done.busy);
    EXPECT_EQ(count(station.service().waits()), done.distinct_experts);
    EXPECT_EQ(station.holds().sum, done.held);
    EXPECT_GE(count(station.holds()), done.holds);
    // What waits in a hold waits for its run.
    EXPECT_GT(station.service().waits().sum, Duration::zero());
  }
  stop_group();
}

TEST_F(RankEngines, RefusesMoreRanksThanExperts) {
  const auto group = ExpertGroup::make(*model_, {.ranks = 65}, clock_);
  ASSERT_FALSE(group.ok());
  EXPECT_EQ(group.error().field, "expert_parallel_size");
  EXPECT_NE(group.error().message.find("65"), std::string::npos) << group.error().message;
}

}  // namespace
}  // namespace gimbal::engine
