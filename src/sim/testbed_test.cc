#include "sim/testbed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/expert_map_json.h"
#include "sim/run_report.h"
#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

using ::testing::HasSubstr;

TEST(TestbedTest, AlikeGroupsShareTheirTables) {
  ClusterSpec spec;
  spec.groups = {{.count = 3, .ranks = 2}, {.ranks = 4}, {.ranks = 2, .speed = 2}};
  const auto testbed = plain_testbed(spec);
  EXPECT_EQ(&testbed->hardware(0), &testbed->hardware(2));
  EXPECT_NE(&testbed->hardware(0), &testbed->hardware(1));
  const auto options = cluster_options(*testbed, plain_system("gimbal"));
  ASSERT_TRUE(options.ok()) << options.error().message;
  ASSERT_EQ(options->groups.size(), 5U);
  EXPECT_DOUBLE_EQ(options->groups[4].options.factor, 0.5);
  EXPECT_EQ(options->groups[0].options.scheduler.vocab_size, 1000);
  EXPECT_EQ(options->groups[0].options.scheduler.experts.experts, 32);
  EXPECT_EQ(options->groups[0].options.scheduler.experts.choices_per_row, 8);
}

TEST(TestbedTest, EnginesLearnFromEachOtherWhereTheyAreAlike) {
  const auto learn = [](const ClusterSpec& spec) {
    return cluster_options(*plain_testbed(spec), plain_system("gimbal"))->dispatch.engines_alike;
  };
  ClusterSpec spec;
  spec.groups = {{.count = 2, .ranks = 2}, {.ranks = 2}};
  EXPECT_TRUE(learn(spec));
  ClusterSpec slowed = spec;
  slowed.script = {{.kind = ScriptEvent::Kind::kFail}};
  EXPECT_TRUE(learn(slowed));
  slowed.script.push_back({.kind = ScriptEvent::Kind::kSlow, .factor = 2});
  EXPECT_FALSE(learn(slowed));
  spec.groups[1].speed = 2;
  EXPECT_FALSE(learn(spec));
  spec.groups[1] = {.ranks = 4};
  EXPECT_FALSE(learn(spec));
}

TEST(TestbedTest, TheCacheIsWhatTheMemoryLeavesOrWhatIsGiven) {
  ClusterSpec spec = uniform_cluster(2, 1).value();
  const auto testbed = plain_testbed(spec);
  SystemOptions system = plain_system("gimbal");
  // 4 layers · 64 values · 2 bytes a token, 16 tokens a page.
  system.kv_cache_bytes = 512 * 16 * 100;
  EXPECT_EQ(cluster_options(*testbed, system)->groups[0].options.scheduler.kv_pages, 100);
  system.kv_cache_bytes = 0;
  const int all = cluster_options(*testbed, system)->groups[0].options.scheduler.kv_pages;
  EXPECT_NEAR(all, 0.9 * 0.01e9 / 512 / 16, 2);
  system.kv_cache_bytes = 512 * 16 * 10;  // less than one request of max_model_len
  const auto small = cluster_options(*testbed, system);
  ASSERT_FALSE(small.ok());
  EXPECT_THAT(small.error().message, HasSubstr("max_model_len"));
}

TEST(TestbedTest, NamesWhatDoesNotFitTheModel) {
  TestbedOptions options{.model = plain_model(), .profile = plain_profile()};
  options.cluster = uniform_cluster(16, 16).value();
  EXPECT_THAT(Testbed::make(options).error().message, HasSubstr("expert_parallel_size"));
  options.cluster.groups = {{.ranks = 1, .attention_tp = 3}};
  EXPECT_THAT(Testbed::make(options).error().message, HasSubstr("attention_tp"));
  options.cluster.groups = {{.profile = "no-such"}};
  EXPECT_THAT(Testbed::make(options).error().message, HasSubstr("no-such"));
  options.cluster = uniform_cluster(2, 2).value();
  options.expert_map = Json{{"version", 1}};
  EXPECT_FALSE(Testbed::make(options).ok());
  options.expert_map.reset();
  options.routing.zipf = 9;
  EXPECT_FALSE(Testbed::make(options).ok());
  options.routing = {.record = "/nonexistent/record"};
  EXPECT_FALSE(Testbed::make(options).ok());
}

TEST(TestbedTest, AModelThatDoesNotFitTheMemoryIsRefused) {
  TestbedOptions options{.model = plain_model(), .profile = plain_profile()};
  options.model.expert_parameters = 1e9;
  options.cluster = uniform_cluster(1, 1).value();
  const auto testbed = Testbed::make(options);
  ASSERT_TRUE(testbed.ok());
  SystemOptions system = plain_system("gimbal");
  system.kv_cache_bytes = 0;
  EXPECT_THAT(cluster_options(**testbed, system).error().message, HasSubstr("does not fit"));
}

TEST(TestbedTest, PatienceAndPlannerReachTheCoordinator) {
  const auto testbed = plain_testbed(uniform_cluster(4, 4).value());
  const workload::Workload workload = random_workload(3, 60, 2);
  const auto run = [&](std::optional<double> patience, const std::string& planner) {
    SystemOptions system = plain_system("gimbal");
    system.scheduler.former_options.drain_steps = 4;  // with one step there is nothing to fill up
    system.patience = patience;
    system.planner = planner;
    const auto cluster = plain_cluster(*testbed, system, workload);
    cluster->run();
    return run_to_json(result_of(*cluster, {}), {});
  };
  const Json plain = run({}, "pairing");
  EXPECT_EQ(run(cluster::GangCoordinatorOptions().patience, "pairing"), plain);
  EXPECT_NE(run(0, "pairing"), plain);
  EXPECT_NE(run({}, "as-wanted"), plain);
  SystemOptions wrong = plain_system("gimbal");
  wrong.planner = "fair";
  const auto refused = SimulatedCluster::make(cluster_options(*testbed, wrong).value(), workload);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().field, "name");
}

TEST(TestbedTest, SkewedRoutingCostsTimeAndSharedAttentionSavesIt) {
  const workload::Workload workload = random_workload(3, 100, 1);
  const auto mean_e2e = [&](ClusterSpec spec, RoutingOptions routing) {
    TestbedOptions options{.model = plain_model(),
                           .profile = plain_profile(),
                           .cluster = std::move(spec),
                           .routing = std::move(routing)};
    options.profile.experts.row_us = 20;
    options.model.attention_parameters = 1e6;
    options.profile.attention.projections.compute_tflop_per_s = 0.1;
    const auto testbed = Testbed::make(options).value();
    const auto cluster = plain_cluster(*testbed, plain_system("vllm-rr"), workload);
    cluster->run();
    return result_of(*cluster, {}).served.all.latency(report::Metric::kE2el).mean();
  };
  const ClusterSpec four = uniform_cluster(4, 4).value();
  EXPECT_GT(mean_e2e(four, {.zipf = 1.5}), 1.05 * mean_e2e(four, {}));
  ClusterSpec halves;
  halves.groups = {{.ranks = 2, .attention_tp = 2}};
  ClusterSpec wholes;
  wholes.groups = {{.ranks = 2}};
  EXPECT_LT(mean_e2e(halves, {}), mean_e2e(wholes, {}));
}

}  // namespace
}  // namespace gimbal::sim
