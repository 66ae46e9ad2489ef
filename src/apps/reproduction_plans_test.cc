#include "apps/reproduction_plans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "apps/reproduction_fixture.h"

namespace gimbal::apps {
namespace {

using ::testing::HasSubstr;

Reproduction made(const ReproductionOptions& options) {
  auto plan = make_reproduction(options);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return plan.ok() ? *plan : Reproduction{};
}

std::string refusal(const ReproductionOptions& options) {
  const auto plan = make_reproduction(options);
  return plan.ok() ? "accepted" : plan.error().message;
}

TEST(ReproductionPlansTest, AreFoundByName) {
  for (const std::string& name : reproduction_names()) {
    const Reproduction plan = made({.what = name});
    EXPECT_EQ(plan.name, name);
    EXPECT_EQ(plan.front, name == "front");
    EXPECT_EQ(plan.workloads.size(), 5U);
    ASSERT_FALSE(plan.systems.empty());
    EXPECT_TRUE(plan.systems.front().baseline);
    for (const PaperClaim& claim : plan.claims) {
      EXPECT_TRUE(std::ranges::any_of(plan.systems, [&](const ReproducedSystem& system) {
        return system.name == claim.system && !system.baseline;
      })) << claim.text;
    }
  }
  EXPECT_THAT(refusal({.what = "v3"}), HasSubstr("v1, v2, front"));
}

TEST(ReproductionPlansTest, ServersGetNoFlagsOfTheSimulator) {
  const Reproduction plan =
      made({.what = "v2", .server_model = "demo", .topics = 4, .scale_lengths = 0.125});
  EXPECT_EQ(after(plan.flags, "--data-parallel-size"), "2");
  for (const char* flag : {"--model", "--profile", "--engines", "--routing-topics"})
    EXPECT_FALSE(has(plan.flags, flag)) << flag;
  EXPECT_THAT(plan.place, HasSubstr("demo"));
  EXPECT_EQ(after(plan.workloads[0].flags, "--scale-lengths"), "0.125");
  EXPECT_EQ(after(plan.workloads[0].flags, "--topics"), "4");
  EXPECT_TRUE(has(plan.workloads[0].system_flags, "--no-enable-prefix-caching"));
  EXPECT_THAT(refusal({.what = "v2", .server_model = "demo", .routing = "zipf:1"}),
              HasSubstr("--routing"));
}

TEST(ReproductionPlansTest, SkewedRoutingComesWithUsersOfTopics) {
  const Reproduction plan = made({.what = "v2", .routing = "zipf:1.2", .topics = 2});
  EXPECT_EQ(after(plan.flags, "--routing"), "zipf:1.2");
  EXPECT_EQ(after(plan.flags, "--routing-topics"), "2");
  for (const ReproducedWorkload& workload : plan.workloads) {
    EXPECT_EQ(after(workload.flags, "--topics"), "2");
    EXPECT_EQ(after(workload.flags, "--users"), "64");
  }
  const Reproduction uniform = made({.what = "v2"});
  EXPECT_FALSE(has(uniform.flags, "--routing"));
  EXPECT_FALSE(has(uniform.workloads[0].flags, "--users"));
}

TEST(ReproductionPlansTest, BudgetsOfTheFrontScaleWithLengths) {
  const auto budgets = [](double scale) {
    std::set<std::string> all;
    for (const auto& system : made({.what = "front", .scale_lengths = scale}).systems) {
      if (system.baseline) all.insert(after(system.flags, "--max-num-batched-tokens"));
    }
    return all;
  };
  EXPECT_EQ(budgets(1), (std::set<std::string>{"512", "1024", "2048", "4096", "8192"}));
  EXPECT_EQ(budgets(0.125), (std::set<std::string>{"64", "128", "256", "512", "1024"}));
  EXPECT_EQ(budgets(0.01), (std::set<std::string>{"16", "20", "41", "82"}));  // at least a page
  EXPECT_EQ(made({.what = "front", .scale_lengths = 0.01}).systems.size(), 4U + 5);
}

TEST(ReproductionPlansTest, TracesStandInPlaceOfOrBesideLengths) {
  ReproductionOptions options{.what = "front", .traces = {{"azure", "a.csv"}}};
  ASSERT_EQ(made(options).workloads.size(), 1U);
  const ReproducedWorkload trace = made(options).workloads[0];
  EXPECT_EQ(trace.name, "azure");
  EXPECT_TRUE(trace.windows);
  EXPECT_EQ(after(trace.flags, "--trace"), "a.csv");
  EXPECT_FALSE(has(trace.flags, "--burstiness"));
  EXPECT_TRUE(has(trace.backlog_flags, "--burstiness"));
  options.workloads = {"random", "two-end"};
  EXPECT_EQ(made(options).workloads.size(), 3U);
  options.traces.push_back({"azure", "b.csv"});
  EXPECT_THAT(refusal(options), HasSubstr("azure"));
}

TEST(ReproductionPlansTest, ErrorsNameTheOption) {
  EXPECT_THAT(refusal({.what = "v1", .scale_lengths = 0}), HasSubstr("--scale-lengths"));
  EXPECT_THAT(refusal({.what = "v1", .workloads = {"randm"}}),
              ::testing::AllOf(HasSubstr("--workloads"), HasSubstr("randm"), HasSubstr("two-end")));
  EXPECT_THAT(refusal({.what = "v1", .loads = {0.5, 0}}), HasSubstr("--loads"));
  EXPECT_THAT(refusal({.what = "v1", .loads = {11}}), HasSubstr("--loads"));
  EXPECT_EQ(made({.what = "v1", .loads = {0.6}}).loads, std::vector<double>{0.6});
}

TEST(ReproductionPlansTest, TracesAreNamedByThemselvesOrByTheirFiles) {
  const auto plain = parse_reproduced_trace("some/where/trace_a.csv");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->name, "trace_a");
  EXPECT_EQ(plain->path, "some/where/trace_a.csv");
  const auto named = parse_reproduced_trace("azure=a=b.csv");
  ASSERT_TRUE(named.ok());
  EXPECT_EQ(named->name, "azure");
  EXPECT_EQ(named->path, "a=b.csv");
  for (const char* wrong : {"", "=", "=a.csv", "azure="})
    EXPECT_FALSE(parse_reproduced_trace(wrong).ok()) << wrong;
}

}  // namespace
}  // namespace gimbal::apps
