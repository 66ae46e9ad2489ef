#include "sim/exact_runner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "sim/run_report.h"
#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

SystemOptions exact_system(const std::string& preset) {
  SystemOptions system = plain_system(preset);
  system.exact = true;
  return system;
}

RunResult run(const Testbed& testbed, const SystemOptions& system,
              const workload::Workload& workload) {
  const auto cluster = plain_cluster(testbed, system, workload);
  cluster->run();
  for (const RequestEntry& entry : cluster->log().entries())
    EXPECT_EQ(entry.ends, 1);
  return result_of(*cluster, {.preset = system.name, .seed = system.seed});
}

double mean(const RunResult& run, report::Metric metric) {
  return run.served.all.latency(metric).mean();
}

TEST(ExactRunnerTest, TakesTheTimesThatCanBeWorkedOutByHand) {
  const auto testbed = plain_testbed(uniform_cluster(1, 1).value());
  workload::Workload workload;
  workload.requests = {request_at(0, 4, 3), request_at(2, 6, 1)};
  const auto cluster = plain_cluster(*testbed, exact_system("vllm"), workload);
  cluster->run();
  const auto& log = cluster->log().entries();
  EXPECT_NEAR(to_ms(log[0].first), 1.76, 1e-4);
  EXPECT_NEAR(to_ms(log[1].first), 1.76 + 1.64 + 1.88, 1e-4);
  const RunResult result = result_of(*cluster, {});
  EXPECT_NEAR(result.work.engines[0].attention_s + result.work.engines[0].service_s,
              result.work.makespan_s, 1e-7);
}

TEST(ExactRunnerTest, AGangStepWaitsForItsSlowestMemberInEveryLayer) {
  const auto testbed = plain_testbed(uniform_cluster(2, 2).value());
  workload::Workload workload;
  workload.requests = {request_at(0, 40, 1), request_at(0, 100, 1)};
  const auto cluster = plain_cluster(*testbed, exact_system("vllm-rr"), workload);
  cluster->run();
  // Round-robin puts one on each rank. The first to ask steps with a dummy beside it or with the
  // other; together they take the longer attention: 4·(100 + 1 000 + 50 + 2·5) + 1 000 µs.
  const double last = to_ms(cluster->log().entries()[1].first);
  EXPECT_GE(last, 4 * 1.16 + 1 - 1e-3);
  EXPECT_EQ(result_of(*cluster, {}).work.dummy_steps + 2, result_of(*cluster, {}).work.gang_joins);
}

TEST(ExactRunnerTest, AgreesWithStepLevelWhereNothingVaries) {
  // Services take the same whatever rows they have, so expected times are exact in lockstep.
  for (const auto& [engines, size] : {std::pair{1, 1}, {2, 2}, {4, 4}, {4, 2}}) {
    SCOPED_TRACE(std::to_string(engines) + "/" + std::to_string(size));
    const auto testbed = plain_testbed(uniform_cluster(engines, size).value());
    const workload::Workload workload = random_workload(11, 80, 3);
    const RunResult step = run(*testbed, plain_system("vllm-rr"), workload);
    const RunResult exact = run(*testbed, exact_system("vllm-rr"), workload);
    for (const report::Metric metric : {report::Metric::kTtft, report::Metric::kE2el}) {
      const double truth = mean(exact, metric);
      EXPECT_NEAR(mean(step, metric), truth, 0.03 * truth);
    }
  }
}

TEST(ExactRunnerTest, NothingIsLostInAnyPaceWhateverHappens) {
  using Kind = ScriptEvent::Kind;
  for (const cluster::GangPace pace :
       {cluster::GangPace::kGang, cluster::GangPace::kLockstep, cluster::GangPace::kImmediate}) {
    for (const bool failures : {false, true}) {
      ClusterSpec spec = uniform_cluster(6, 3).value();
      if (failures) {
        spec.script = {{.kind = Kind::kFail, .at = from_ms(30), .engine = EngineId{1}},
                       {.kind = Kind::kFail,
                        .at = from_ms(40),
                        .engine = EngineId{3},
                        .noticed_after = from_ms(20)}};
      }
      const auto testbed = plain_testbed(spec, {.zipf = 1});
      SystemOptions system = exact_system("gimbal");
      system.pace = pace;
      const RunResult result = run(*testbed, system, random_workload(5, 120, 1));
      const auto completed = result.ends[static_cast<std::size_t>(RequestEnd::kCompleted)];
      EXPECT_EQ(result.work.pages_referenced, 0);
      if (failures) {
        EXPECT_GT(completed, 60);
      } else {
        EXPECT_EQ(completed, 120);
      }
    }
  }
}

TEST(ExactRunnerTest, AGroupMayFailAsAWhole) {
  using Kind = ScriptEvent::Kind;
  ClusterSpec spec = uniform_cluster(4, 2).value();
  spec.script = {{.kind = Kind::kFail, .at = from_ms(30), .engine = EngineId{0}},
                 {.kind = Kind::kFail, .at = from_ms(40), .engine = EngineId{1}}};
  const auto testbed = plain_testbed(spec);
  const RunResult result = run(*testbed, exact_system("gimbal"), random_workload(5, 120, 1));
  EXPECT_GT(result.ends[static_cast<std::size_t>(RequestEnd::kCompleted)], 60);
  EXPECT_EQ(result.work.pages_referenced, 0);
}

TEST(ExactRunnerTest, APopularExpertDelaysEveryone) {
  TestbedOptions options{.model = plain_model(), .profile = plain_profile()};
  options.profile.experts.row_us = 20;
  options.cluster = uniform_cluster(4, 4).value();
  const workload::Workload workload = random_workload(6, 80, 2);
  const auto testbed = Testbed::make(options).value();
  options.routing.zipf = 2;
  const auto skewed = Testbed::make(options).value();
  const double even = mean(run(*testbed, exact_system("vllm-rr"), workload), report::Metric::kE2el);
  const double uneven =
      mean(run(*skewed, exact_system("vllm-rr"), workload), report::Metric::kE2el);
  EXPECT_GT(uneven, 1.1 * even);
  // And step-level expects about that.
  const double expected =
      mean(run(*skewed, plain_system("vllm-rr"), workload), report::Metric::kE2el);
  EXPECT_NEAR(expected, uneven, 0.15 * uneven);
}

TEST(ExactRunnerTest, TheSameSeedGivesTheSameBytes) {
  const auto testbed = plain_testbed(uniform_cluster(4, 2).value(), {.zipf = 1, .topics = 2});
  const workload::Workload workload = random_workload(9, 60, 1);
  SystemOptions system = exact_system("gimbal");
  system.seed = 3;
  const std::string first = run_to_json(run(*testbed, system, workload), {}).dump();
  EXPECT_EQ(run_to_json(run(*testbed, system, workload), {}).dump(), first);
}

}  // namespace
}  // namespace gimbal::sim
