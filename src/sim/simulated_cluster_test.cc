#include "sim/simulated_cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "sim/run_report.h"
#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

constexpr const char* kPresets[] = {"vllm", "vllm-rr", "gimbal-v1", "gimbal-v2", "tgi", "gimbal"};

RunResult run(const Testbed& testbed, const SystemOptions& system,
              const workload::Workload& workload) {
  const auto cluster = plain_cluster(testbed, system, workload);
  cluster->run();
  return result_of(*cluster, {.preset = system.name, .seed = system.seed});
}

std::int64_t count(const RunResult& run, RequestEnd end) {
  return run.ends[static_cast<std::size_t>(end)];
}

// What holds whatever happens: every request ends once, a completed one has all its tokens in
// order of time, nothing that is left holds a page, and busy times fit the time that passed.
void expect_conserved(SimulatedCluster& cluster, const workload::Workload& workload) {
  std::uint64_t tokens = 0;
  for (std::size_t i = 0; i < cluster.log().size(); ++i) {
    const RequestEntry& entry = cluster.log().entries()[i];
    EXPECT_EQ(entry.ends, 1) << i;
    EXPECT_NE(entry.end, RequestEnd::kNone);
    tokens += static_cast<std::uint64_t>(entry.output_tokens);
    if (entry.end != RequestEnd::kCompleted) continue;
    EXPECT_EQ(entry.output_tokens, workload.requests[i].output_tokens) << i;
    EXPECT_GT(entry.first, entry.arrival);
    EXPECT_GE(entry.last, entry.first);
  }
  const RunResult result = result_of(cluster, {});
  EXPECT_EQ(result.work.pages_referenced, 0);
  EXPECT_EQ(result.work.generated_tokens, tokens);
  double longest = 0;
  for (const RunWork::Engine& engine : result.work.engines) {
    // A rank's own stages and its waits follow each other; its share of services may be spent on
    // several ranks at once.
    EXPECT_LE(engine.attention_s + engine.wait_s, result.work.makespan_s * (1 + 1e-9));
    longest = std::max(longest, engine.attention_s + engine.service_s + engine.wait_s);
  }
  EXPECT_GT(longest, 0);
}

TEST(SimulatedClusterTest, TakesTheTimesThatCanBeWorkedOutByHand) {
  const auto testbed = plain_testbed(uniform_cluster(1, 1).value());
  workload::Workload workload;
  workload.requests = {request_at(0, 4, 3), request_at(2, 6, 1)};
  const auto cluster = plain_cluster(*testbed, plain_system("vllm"), workload);
  cluster->run();
  const auto& log = cluster->log().entries();
  // Alone: 4·(100 + 4·10 + 50) + 1 000 µs to the first token, 4·(110 + 50) + 1 000 to the next.
  EXPECT_NEAR(to_ms(log[0].first), 1.76, 1e-4);
  // The second comes meanwhile, and its prefill of 6 rows goes with the third token's step:
  // 4·(100 + 7·10 + 50) + 1 000.
  EXPECT_NEAR(to_ms(log[1].first), 1.76 + 1.64 + 1.88, 1e-4);
  EXPECT_NEAR(to_ms(log[0].last), 1.76 + 1.64 + 1.88, 1e-4);
  EXPECT_EQ(log[1].end, RequestEnd::kCompleted);
  expect_conserved(*cluster, workload);
  const RunResult result = result_of(*cluster, {});
  EXPECT_EQ(result.work.engine_steps, 3U);
  // Busy all the time: attention and what comes once a step, and services.
  EXPECT_NEAR(result.work.engines[0].attention_s + result.work.engines[0].service_s,
              result.work.makespan_s, 1e-7);
}

TEST(SimulatedClusterTest, LockstepRanksStepTogetherWithDummies) {
  const auto testbed = plain_testbed(uniform_cluster(2, 2).value());
  workload::Workload workload;
  workload.requests = {request_at(0, 4, 2)};
  const auto cluster = plain_cluster(*testbed, plain_system("vllm-rr"), workload);
  cluster->run();
  // 4·(140 + 50 + 2·5) + 1 000 µs; the idle rank's dummy row is in time.
  EXPECT_NEAR(to_ms(cluster->log().entries()[0].first), 1.8, 1e-3);
  const RunResult result = result_of(*cluster, {});
  EXPECT_EQ(result.work.gang_steps, 2U);
  EXPECT_EQ(result.work.dummy_steps, 2U);
  EXPECT_EQ(result.work.solo_steps, 0U);
  const auto gang = plain_cluster(*testbed, plain_system("gimbal"), workload);
  gang->run();
  EXPECT_EQ(result_of(*gang, {}).work.dummy_steps, 0U);
}

TEST(SimulatedClusterTest, NothingIsLostOrDoubled) {
  for (const char* preset : kPresets) {
    for (const auto& [engines, size] : {std::pair{1, 1}, {4, 1}, {4, 2}, {4, 4}}) {
      SCOPED_TRACE(std::string(preset) + " " + std::to_string(engines) + "/" +
                   std::to_string(size));
      const auto testbed = plain_testbed(uniform_cluster(engines, size).value());
      const workload::Workload workload = random_workload(3, 150, 2);
      SystemOptions system = plain_system(preset);
      system.kv_cache_bytes = 512 * 1024;  // few pages: evictions
      const auto cluster = plain_cluster(*testbed, system, workload);
      cluster->run();
      expect_conserved(*cluster, workload);
      EXPECT_EQ(count(result_of(*cluster, {}), RequestEnd::kCompleted), 150);
    }
  }
}

TEST(SimulatedClusterTest, NothingIsLostWhenBindingIsLate) {
  const auto testbed = plain_testbed(uniform_cluster(4, 2).value());
  const workload::Workload workload = random_workload(4, 200, 1);
  SystemOptions system = plain_system("gimbal");
  system.dispatch.late = true;
  const auto cluster = plain_cluster(*testbed, system, workload);
  cluster->run();
  expect_conserved(*cluster, workload);
  EXPECT_EQ(count(result_of(*cluster, {}), RequestEnd::kCompleted), 200);
}

TEST(SimulatedClusterTest, NothingIsLostWhateverHappensToEngines) {
  using Kind = ScriptEvent::Kind;
  for (const char* preset : {"gimbal", "vllm"}) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      SCOPED_TRACE(std::string(preset) + " " + std::to_string(seed));
      Rng rng(seed);
      ClusterSpec spec = uniform_cluster(6, seed % 2 == 0 ? 3 : 2).value();
      spec.signals = {.delay = from_ms(rng.uniform() * 5),
                      .jitter = from_ms(rng.uniform() * 5),
                      .loss = rng.uniform() * 0.3};
      spec.script = {{.kind = Kind::kSlow, .at = from_ms(20), .engine = EngineId{0}, .factor = 3},
                     {.kind = Kind::kFail, .at = from_ms(30), .engine = EngineId{1}},
                     {.kind = Kind::kFail,
                      .at = from_ms(40),
                      .engine = EngineId{2},
                      .noticed_after = from_ms(30)},
                     {.kind = Kind::kStop, .at = from_ms(50), .engine = EngineId{3}},
                     {.kind = Kind::kStart, .at = from_ms(60), .engine = EngineId{4}},
                     {.kind = Kind::kSlow, .at = from_ms(80), .engine = EngineId{0}, .factor = 1}};
      const auto testbed = plain_testbed(spec);
      const workload::Workload workload = random_workload(seed, 200, 0.7);
      SystemOptions system = plain_system(preset);
      system.seed = seed;
      const auto cluster = plain_cluster(*testbed, system, workload);
      cluster->run();
      expect_conserved(*cluster, workload);
      const RunResult result = result_of(*cluster, {});
      EXPECT_GT(count(result, RequestEnd::kCompleted), 120);
      EXPECT_EQ(count(result, RequestEnd::kCompleted) + count(result, RequestEnd::kFailed), 200);
      EXPECT_GT(result.work.engines[4].steps, 0U);
    }
  }
}

TEST(SimulatedClusterTest, TheSameSeedGivesTheSameBytes) {
  const workload::Workload workload = random_workload(9, 150, 1);
  ClusterSpec spec = uniform_cluster(4, 2).value();
  spec.signals = {.delay = from_ms(1), .jitter = from_ms(2), .loss = 0.1};
  const auto testbed = plain_testbed(spec, {.zipf = 1, .topics = 2});
  for (const char* preset : kPresets) {
    SystemOptions system = plain_system(preset);
    system.seed = 5;
    const std::string first = run_to_json(run(*testbed, system, workload), {}).dump();
    EXPECT_EQ(run_to_json(run(*testbed, system, workload), {}).dump(), first) << preset;
  }
  SystemOptions system = plain_system("gimbal");
  system.seed = 5;
  const std::string first = run_to_json(run(*testbed, system, workload), {}).dump();
  system.seed = 6;
  EXPECT_NE(run_to_json(run(*testbed, system, workload), {}).dump(), first);
}

TEST(SimulatedClusterTest, OrdersDifferAsTheyShould) {
  // While a long prompt runs, a longer and a short one arrive.
  const auto testbed = plain_testbed(uniform_cluster(1, 1).value());
  workload::Workload workload;
  workload.requests = {request_at(0, 256, 1), request_at(1, 250, 1), request_at(2, 8, 1)};
  const auto first_token = [&](const char* preset, std::size_t index) {
    const auto cluster = plain_cluster(*testbed, plain_system(preset), workload);
    cluster->run();
    return cluster->log().entries()[index].first;
  };
  EXPECT_LT(first_token("vllm", 1), first_token("vllm", 2));
  EXPECT_GT(first_token("gimbal-v2", 1), first_token("gimbal-v2", 2));
}

TEST(SimulatedClusterTest, UsersGoWhereTheExpertsOfTheirTopicAre) {
  const auto testbed = plain_testbed(uniform_cluster(2, 2).value(), {.zipf = 2, .topics = 2});
  const GroupHardware& hardware = testbed->hardware(0);
  double at_first[2] = {};  // part of a topic's rows that rank 0 runs
  for (int topic = 0; topic < 2; ++topic) {
    for (int layer = 0; layer < 4; ++layer) {
      const auto inclusion = hardware.routing.inclusion(LayerIndex{layer}, topic);
      for (int expert = 0; expert < 4; ++expert)  // of 8, the linear map's first half
        at_first[topic] += inclusion[static_cast<std::size_t>(expert)] / (4 * 2);
    }
    ASSERT_GT(std::abs(at_first[topic] - 0.5), 0.02);
  }
  workload::Workload workload;
  for (int i = 0; i < 20; ++i) {  // one after the other
    workload::RequestSpec& request = workload.requests.emplace_back(request_at(100 * i, 20, 10));
    request.prompt.front().topic = i % 2;
    request.user = i % 2 == 0 ? "even" : "odd";
  }
  SystemOptions system = plain_system("gimbal");
  system.exchange_ms_per_token = 1000;
  const auto cluster = plain_cluster(*testbed, system, workload);
  cluster->run();
  const auto& decisions = cluster->dispatcher().log().records();
  ASSERT_EQ(decisions.size(), 20U);
  for (std::size_t i = 0; i < 20; ++i) {
    const auto& engines = decisions[i].engines;
    if (i < 2) {
      EXPECT_FALSE(engines[0].local_share || engines[1].local_share);
      continue;
    }
    ASSERT_TRUE(engines[0].local_share && engines[1].local_share);
    EXPECT_NEAR(*engines[0].local_share, at_first[i % 2], 1e-5);
    EXPECT_NEAR(*engines[0].local_share + *engines[1].local_share, 1, 1e-9);
    EXPECT_EQ(decisions[i].engine, at_first[i % 2] > 0.5 ? 0 : 1) << i;
  }
}

TEST(SimulatedClusterTest, ATokensExchangeCostsWhatTheMachinesSay) {
  ClusterSpec spec = uniform_cluster(4, 2).value();
  const auto price = [&spec] {
    const auto testbed = plain_testbed(spec);
    return cluster_options(*testbed, plain_system("gimbal"))
        .value()
        .dispatch.rule_options.exchange_ms_per_token;
  };
  const auto testbed = plain_testbed(spec);
  const double pair = testbed->hardware(0).model.exchange_ms_per_token(cost::Tier::kSameNode);
  EXPECT_GT(pair, 0);
  EXPECT_DOUBLE_EQ(price(), pair);
  spec.groups.push_back({.count = 4});  // alone: they count for nothing
  EXPECT_DOUBLE_EQ(price(), pair);
  spec.groups.erase(spec.groups.begin());
  EXPECT_EQ(price(), 0);
}

TEST(SimulatedClusterTest, RoundRobinTakesTurns) {
  const auto testbed = plain_testbed(uniform_cluster(3, 1).value());
  const workload::Workload workload = random_workload(2, 30, 1);
  const auto cluster = plain_cluster(*testbed, plain_system("vllm-rr"), workload);
  cluster->run();
  for (std::size_t i = 0; i < 30; ++i)
    EXPECT_EQ(cluster->log().entries()[i].engine, static_cast<int>(i % 3));
}

TEST(SimulatedClusterTest, SlowEnginesGetLess) {
  ClusterSpec spec = uniform_cluster(2, 1).value();
  spec.script = {{.kind = ScriptEvent::Kind::kSlow, .engine = EngineId{0}, .factor = 5}};
  const auto testbed = plain_testbed(spec);
  const RunResult result = run(*testbed, plain_system("gimbal"), random_workload(8, 600, 6));
  EXPECT_GT(result.work.engines[1].generated_tokens, 2 * result.work.engines[0].generated_tokens);
}

TEST(SimulatedClusterTest, RequestsThatFitNoEngineEndAtOnce) {
  const auto testbed = plain_testbed(uniform_cluster(2, 1).value());
  workload::Workload workload;
  workload.requests = {request_at(0, 600, 1), request_at(0, 8, 505), request_at(1, 8, 2)};
  const RunResult result = run(*testbed, plain_system("gimbal"), workload);
  EXPECT_EQ(count(result, RequestEnd::kTooLong), 2);
  EXPECT_EQ(count(result, RequestEnd::kCompleted), 1);
}

TEST(SimulatedClusterTest, FullQueuesRefuse) {
  const auto testbed = plain_testbed(uniform_cluster(2, 1).value());
  workload::Workload workload;
  for (int i = 0; i < 40; ++i)
    workload.requests.push_back(request_at(0, 100, 1));
  SystemOptions system = plain_system("gimbal");
  system.scheduler.max_waiting_prefill_tokens = 500;
  const RunResult result = run(*testbed, system, workload);
  EXPECT_GT(count(result, RequestEnd::kRefused), 10);
  EXPECT_GT(count(result, RequestEnd::kCompleted), 5);
  EXPECT_EQ(count(result, RequestEnd::kRefused) + count(result, RequestEnd::kCompleted), 40);
}

TEST(SimulatedClusterTest, SharedPrefixesAreFound) {
  const auto testbed = plain_testbed(uniform_cluster(2, 1).value());
  workload::Workload workload;
  for (int i = 0; i < 20; ++i)
    workload.requests.push_back(request_at(10.0 * i, 200, 2, 77));
  const RunResult result = run(*testbed, plain_system("gimbal"), workload);
  EXPECT_GE(result.work.prefix_hit_tokens, 18U * 192U);
  EXPECT_GT(result.served.all.total_cached_tokens, 0);
}

TEST(SimulatedClusterTest, RefusesScriptsOfEnginesThatAreNotThere) {
  ClusterSpec spec = uniform_cluster(2, 1).value();
  spec.script = {{.engine = EngineId{2}}};
  const auto testbed = plain_testbed(spec);
  auto options = cluster_options(*testbed, plain_system("gimbal"));
  ASSERT_TRUE(options.ok());
  const workload::Workload workload;
  const auto made = SimulatedCluster::make(std::move(options).value(), workload);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("script[0].engine"), std::string::npos);
}

}  // namespace
}  // namespace gimbal::sim
