#include "sim/run_report.h"

#include <gtest/gtest.h>

#include <vector>

#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

TEST(RunReportTest, NamesFieldsAsVllmBenchServeDoes) {
  const auto testbed = plain_testbed(uniform_cluster(2, 2).value());
  const workload::Workload workload = random_workload(3, 20, 1);
  const auto cluster = plain_cluster(*testbed, plain_system("gimbal"), workload);
  cluster->run();
  RunResult result = result_of(*cluster, {.preset = "gimbal", .seed = 3});
  result.wall_s = 1.5;
  const Json json = run_to_json(result, {});
  for (const char* name :
       {"preset", "seed", "completed", "mean_ttft_ms", "p50_ttft_ms", "p99_ttft_ms", "mean_tpot_ms",
        "p50_tpot_ms", "p99_tpot_ms", "request_throughput", "output_throughput", "mean_e2el_ms"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  EXPECT_FALSE(json.contains("date"));
  EXPECT_EQ(json.at("completed"), 20);
  EXPECT_EQ(json.at("p50_ttft_ms"), json.at("median_ttft_ms"));
  EXPECT_EQ(json.at("wall_s"), 1.5);
  const std::vector<RunResult> runs{result, result};
  EXPECT_EQ(runs_table(runs).rows(), 2U);
  EXPECT_EQ(presets_table(runs).rows(), 1U);
}

}  // namespace
}  // namespace gimbal::sim
