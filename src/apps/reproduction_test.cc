#include "apps/reproduction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "apps/reproduction_fixture.h"

namespace gimbal::apps {
namespace {

using ::testing::ElementsAre;

TEST(ReproductionTest, RunsEverySystemOnEverySeedAtSharesOfTheBaselinesSaturation) {
  std::vector<std::string> rates;
  std::size_t calls = 0;
  std::size_t done = 0;
  const auto result = reproduce(
      plan_of_a_test(), {1, 2, 3},
      [&](const RunFlags& flags, std::uint64_t seed) {
        ++calls;
        EXPECT_THAT(flags.machines, ElementsAre("--model", "m"));
        EXPECT_EQ(has(flags.system, "--no-cache"), has(flags.workload, "--long"));
        const bool backlog = !has(flags.workload, "--request-rate");
        EXPECT_TRUE(!backlog || has(flags.system, "--a"));
        EXPECT_EQ(after(flags.workload, "--num-prompts"), backlog ? "5000" : "1000");
        rates.push_back(after(flags.workload, "--request-rate"));
        return run_of_a_test(flags, seed);
      },
      [&](std::size_t count) { done = count; });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(calls, runs_of(plan_of_a_test(), 3));
  EXPECT_EQ(calls, 2U * (3 + 2 * 3 * 3));
  EXPECT_EQ(done, calls);
  EXPECT_EQ(std::ranges::count(rates, ""), 6);
  EXPECT_EQ(std::ranges::count(rates, "4.0000"), 18);
  EXPECT_EQ(std::ranges::count(rates, "9.6000"), 18);
  ASSERT_EQ(result->cells.size(), 4U);
  EXPECT_EQ(result->cells[0].runs.at("new").size(), 3U);
  EXPECT_THAT(result->seeds, ElementsAre(1, 2, 3));
}

TEST(ReproductionTest, SystemsOfACellTakeTurns) {
  std::vector<std::string> order;
  Reproduction plan = plan_of_a_test();
  plan.workloads.resize(1);
  plan.loads = {0.5};
  const auto result = reproduce(
      plan, {7, 8},
      [&](const RunFlags& flags, std::uint64_t seed) {
        if (has(flags.workload, "--request-rate")) order.push_back(flags.system.front());
        return run_of_a_test(flags, seed);
      },
      [](std::size_t) {});
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(order, ElementsAre("--a", "--b", "--new", "--a", "--b", "--new"));
}

TEST(ReproductionTest, AWorkloadMayHaveMoreRequestsAndACacheOfItsOwn) {
  Reproduction plan = plan_of_a_test();
  plan.workloads.resize(1);
  plan.num_prompts = 50;
  for (const auto& [times, backlog] : {std::pair{2, 5}, std::pair{8, 8}}) {
    plan.workloads[0].times_prompts = times;
    plan.workloads[0].cache_tokens = 3200;
    const auto result = reproduce(
        plan, {1},
        [&](const RunFlags& flags, std::uint64_t seed) {
          const bool all_at_once = !has(flags.workload, "--request-rate");
          EXPECT_EQ(after(flags.workload, "--num-prompts"),
                    std::to_string(50 * (all_at_once ? backlog : times)));
          EXPECT_EQ(flags.cache_tokens, 3200);
          return run_of_a_test(flags, seed);
        },
        [](std::size_t) {});
    ASSERT_TRUE(result.ok());
  }
}

TEST(ReproductionTest, EachSeedHasAWindowOfATrace) {
  Reproduction plan = plan_of_a_test();
  plan.workloads = {{.name = "trace",
                     .flags = {"--trace", "t"},
                     .system_flags = {},
                     .backlog_flags = {"--burstiness", "1"},
                     .windows = true}};
  plan.num_prompts = 50;
  const auto result = reproduce(
      plan, {7, 9},
      [&](const RunFlags& flags, std::uint64_t seed) {
        EXPECT_NE(has(flags.workload, "--request-rate"), has(flags.workload, "--burstiness"));
        EXPECT_EQ(after(flags.workload, "--skip-prompts"), seed == 7 ? "0" : "50");
        return run_of_a_test(flags, seed);
      },
      [](std::size_t) {});
  ASSERT_TRUE(result.ok());
}

TEST(ReproductionTest, ARunThatFailsEndsAll) {
  std::size_t calls = 0;
  const auto result = reproduce(
      plan_of_a_test(), {1},
      [&](const RunFlags& flags, std::uint64_t seed) {
        if (++calls == 5) return Result<RunNumbers>(invalid_argument("the fifth"));
        return run_of_a_test(flags, seed);
      },
      [](std::size_t) {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message, "the fifth");
  EXPECT_EQ(calls, 5U);
}

}  // namespace
}  // namespace gimbal::apps
