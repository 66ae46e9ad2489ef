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
    EXPECT_EQ(plan.workloads.size(), name == "v1" ? 6U : 5U);
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

TEST(ReproductionPlansTest, ConversationsOfV1KeepTheUsersOfOneEngineInItsCache) {
  const Reproduction plan = made({.what = "v1", .workloads = {"multi-turn"}, .num_prompts = 1000});
  ASSERT_EQ(plan.workloads.size(), 1U);
  const ReproducedWorkload& turns = plan.workloads[0];
  EXPECT_EQ(after(turns.flags, "--dataset-name"), "multi-turn");
  EXPECT_EQ(after(turns.flags, "--users"), "1000");
  EXPECT_FALSE(has(turns.flags, "--burstiness"));  // on the users' own times
  EXPECT_TRUE(has(turns.backlog_flags, "--burstiness"));
  EXPECT_FALSE(has(turns.system_flags, "--no-enable-prefix-caching"));
  EXPECT_EQ(turns.times_prompts, 8);
  EXPECT_EQ(turns.cache_tokens, 350'000);  // 700 of each of 500 users
  const auto claims = std::ranges::count(plan.claims, "multi-turn", &PaperClaim::workload);
  EXPECT_EQ(claims, 1);
  const auto tokens = [](int users, double scale) {
    return made({.what = "v1",
                 .scale_lengths = scale,
                 .workloads = {"multi-turn"},
                 .num_prompts = users})
        .workloads[0]
        .cache_tokens;
  };
  EXPECT_EQ(tokens(100, 0.125), 4384);  // 35 000 / 8 in whole pages
  EXPECT_EQ(tokens(10, 1), 8192);       // two of the longest requests, at least
  for (const char* other : {"v2", "front"})
    EXPECT_THAT(refusal({.what = other, .workloads = {"multi-turn"}}), HasSubstr("multi-turn"));
}

TEST(ReproductionPlansTest, ConversationsMayHaveTopics) {
  const Reproduction plan = made({.what = "v1", .topics = 2, .workloads = {"multi-turn"}});
  EXPECT_EQ(std::ranges::count(plan.workloads[0].flags, "--users"), 1);
  EXPECT_EQ(after(plan.workloads[0].flags, "--topics"), "2");
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

TEST(ReproductionPlansTest, TracesHaveNoNameOfAWorkloadOfThePlans) {
  for (const char* name : {"multi-turn", "random", "average"}) {
    for (const char* what : {"v1", "front"}) {
      EXPECT_THAT(refusal({.what = what, .traces = {{name, "a.csv"}}}),
                  ::testing::AllOf(HasSubstr("--trace"), HasSubstr(name)));
    }
  }
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
