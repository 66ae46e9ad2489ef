// Engines that share experts, whole: whatever their number, pace, workers, map, delays and load, a
// request gets the tokens and log probabilities that one engine alone gives it
// (docs/architecture.md, "Batch invariance").

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_fleet.h"
#include "engine_fixture.h"
#include "random_map.h"

namespace gimbal::engine {
namespace {

constexpr int kRequests = 24;
constexpr int kRounds = 12;  // of each pace and kind of workers

using Stories = std::map<RequestId, Collector::Story>;

void expect_same_bits(const std::vector<sched::TokenLogprobs>& is,
                      const std::vector<sched::TokenLogprobs>& expected) {
  ASSERT_EQ(is.size(), expected.size());
  for (std::size_t i = 0; i < is.size(); ++i) {
    EXPECT_EQ(is[i].token, expected[i].token);
    EXPECT_EQ(is[i].logprob, expected[i].logprob);
    EXPECT_EQ(is[i].rank, expected[i].rank);
    EXPECT_EQ(is[i].top, expected[i].top);
  }
}

class FleetInvariance : public EngineFixture {
 protected:
  std::vector<sched::Request> random_requests(Rng& rng) const {
    std::vector<sched::Request> requests;
    for (std::uint64_t id = 1; id <= kRequests; ++id) {
      sched::Request& made = requests.emplace_back(
          request(id, 1 + static_cast<int>(rng.below(90)), 1 + static_cast<int>(rng.below(24))));
      made.sampling.temperature = rng.below(3) == 0 ? 0.0F : 1.0F;
      made.sampling.logprobs = 4;
      made.sampling.prompt_logprobs = rng.below(4) == 0;
      if (rng.below(3) == 0) made.request_class = sched::RequestClass::kBestEffort;
    }
    return requests;
  }

  EngineFleetOptions fleet_options(int engines, int kv_pages) const {
    EngineFleetOptions options{.engines = engines};
    options.engine.scheduler.max_num_batched_tokens = 64;
    options.engine.scheduler.max_num_seqs = 8;
    options.engine.scheduler.max_model_len = 128;
    options.engine.kv_cache_bytes =
        kv_pages * model::KvStorage::page_bytes(model_->config(), model_->dtype());
    options.engine.dead_after = std::chrono::minutes(10);
    options.pin = false;
    return options;
  }

  EngineFleetOptions random_options(cluster::GangPace pace, RankWorkers workers, Rng& rng) const {
    EngineFleetOptions options =
        fleet_options(2 + static_cast<int>(rng.below(3)), rng.below(2) == 0 ? 24 : 64);
    options.pace = pace;
    options.workers = workers;
    if (options.engines == 4 && rng.below(2) == 0) options.expert_parallel_size = 2;
    const int size = options.expert_parallel_size == 0 ? options.engines : 2;
    options.map = random_map(ExpertGroup::map_shape(model_->config(), size), 1, rng);
    if (rng.below(2) == 0) options.patience = static_cast<double>(rng.below(9));
    if (rng.below(2) == 0) options.planner = rng.below(2) == 0 ? "pairing" : "as-wanted";
    if (rng.below(2) == 0) {
      options.expert_queues = {
          "ls-first",
          {.quantum = from_ms(rng.uniform() * 0.2), .max_defer = static_cast<int>(rng.below(6))}};
    }
    if (rng.below(3) != 0) {
      options.profile = {
          .ranks_per_node = 2,
          .same_node = {.latency_us = static_cast<double>(rng.below(20)), .gb_per_s = 1},
          .other_node = {.latency_us = static_cast<double>(rng.below(80)), .gb_per_s = 0.5}};
    }
    return options;
  }

  std::unique_ptr<EngineFleet> start(const EngineFleetOptions& options, Collector& sink) {
    const std::vector<cluster::TokenSink*> sinks(static_cast<std::size_t>(options.engines), &sink);
    auto started = EngineFleet::start(*model_, options, pool_, sinks);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return std::move(started).value();
  }

  Stories alone(const std::vector<sched::Request>& requests) {
    Collector sink;
    const auto fleet = start(fleet_options(1, 256), sink);
    for (const sched::Request& request : requests)
      EXPECT_TRUE(fleet->engine(0).submit({request}).ok());
    sink.wait_for_ends(requests.size());
    return sink.stories();
  }

  // The requests come at any engine, some when others have got so far, between swaps of maps.
  Stories together(EngineFleet& fleet, Collector& sink, const std::vector<sched::Request>& requests,
                   Rng& rng) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto engine = static_cast<int>(rng.below(static_cast<std::uint64_t>(fleet.size())));
      EXPECT_TRUE(fleet.engine(engine).submit({requests[i]}).ok());
      if (rng.below(4) == 0) {
        const sched::Request& other = requests[rng.below(i + 1)];
        sink.wait_for_tokens(other.id, 1 + rng.below(static_cast<std::uint64_t>(other.max_tokens)));
      }
      if (rng.below(3) != 0) continue;
      const std::size_t group = rng.below(fleet.groups().size());
      const auto swapped =
          fleet.set_expert_map(group, random_map(fleet.expert_map(group)->shape(), 0, rng));
      EXPECT_TRUE(swapped.ok()) << swapped.error().message;
    }
    sink.wait_for_ends(requests.size());
    return sink.stories();
  }

  // What the gangs of all rounds did.
  cluster::GangCounters compare(cluster::GangPace pace) {
    cluster::GangCounters sum;
    for (const RankWorkers workers : {RankWorkers::kShared, RankWorkers::kOwn}) {
      for (int round = 0; round < kRounds; ++round) {
        Rng rng(static_cast<std::uint64_t>(round * 10 + static_cast<int>(pace)));
        SCOPED_TRACE(testing::Message() << (workers == RankWorkers::kOwn ? "own" : "shared")
                                        << " workers, round " << round);
        const std::vector<sched::Request> requests = random_requests(rng);
        const Stories expected = alone(requests);
        Collector sink;
        const auto fleet = start(random_options(pace, workers, rng), sink);
        expect_same(together(*fleet, sink, requests, rng), expected);
        for (const cluster::GroupReading& group : fleet->expert_groups()) {
          EXPECT_GT(group.map_version, 1U);
          sum.gang_steps += group.gang.gang_steps;
          sum.dummies += group.gang.dummies;
        }
      }
    }
    return sum;
  }

 private:
  static void expect_same(const Stories& are, const Stories& expected) {
    ASSERT_EQ(are.size(), expected.size());
    for (const auto& [id, story] : are) {
      SCOPED_TRACE(testing::Message() << "request " << id.value());
      const Collector::Story& alone = expected.at(id);
      EXPECT_EQ(story.finish, sched::FinishReason::kLength);
      EXPECT_EQ(story.tokens, alone.tokens);
      EXPECT_EQ(story.logprobs.size(), story.tokens.size());
      expect_same_bits(story.logprobs, alone.logprobs);
      expect_same_bits(story.prompt_logprobs, alone.prompt_logprobs);
    }
  }
};

TEST_F(FleetInvariance, GangsGiveWhatOneEngineGives) {
  EXPECT_GT(compare(cluster::GangPace::kGang).gang_steps, 20U);
}

TEST_F(FleetInvariance, LockstepGivesWhatOneEngineGives) {
  EXPECT_GT(compare(cluster::GangPace::kLockstep).dummies, 20U);
}

TEST_F(FleetInvariance, ImmediateGivesWhatOneEngineGives) {
  EXPECT_EQ(compare(cluster::GangPace::kImmediate).gang_steps, 0U);
}

}  // namespace
}  // namespace gimbal::engine
