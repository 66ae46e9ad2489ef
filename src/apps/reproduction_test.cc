#include "apps/reproduction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace gimbal::apps {
namespace {

using ::testing::HasSubstr;

bool has(const std::vector<std::string>& flags, const std::string& flag) {
  return std::ranges::find(flags, flag) != flags.end();
}

std::string after(const std::vector<std::string>& flags, const std::string& flag) {
  const auto at = std::ranges::find(flags, flag);
  return at == flags.end() ? std::string() : *(at + 1);
}

// Two baselines, of which one is better at TTFT and the other at TPOT, and a system that halves the
// first and keeps the second.
Reproduction plan() {
  Reproduction plan{
      .name = "test",
      .title = "A test",
      .flags = {"--model", "m"},
      .systems = {{"a", {"--a"}, true}, {"b", {"--b"}, true}, {"new", {"--new"}, false}},
      .workloads = {{"short", {"--short"}}, {"long", {"--long"}}},
      .loads = {0.5, 1.2},
      .claims = {}};
  plan.claims = {
      {"TTFT up to -50 %", "P", "new", PaperClaim::Metric::kTtft, PaperClaim::Over::kBest, -0.5, 0},
      {"TPOT -10 %", "R", "new", PaperClaim::Metric::kTpot, PaperClaim::Over::kMean, -0.1, 0},
      {"throughput +3 %", "P", "new", PaperClaim::Metric::kThroughput, PaperClaim::Over::kMean,
       0.03, 1.05}};
  return plan;
}

RunNumbers numbers(const std::vector<std::string>& flags, std::uint64_t seed) {
  RunNumbers run{.mean_ttft_ms = 100.0 + static_cast<double>(seed),
                 .mean_tpot_ms = 20,
                 .mean_e2el_ms = 1'000,
                 .request_throughput = 8};
  if (has(flags, "--b")) {
    run.mean_ttft_ms *= 2;
    run.mean_tpot_ms = 10;
  }
  if (has(flags, "--new")) {
    run.mean_ttft_ms *= has(flags, "--long") ? 0.5 : 0.75;
    run.mean_tpot_ms = 10;
    if (after(flags, "--request-rate") == "9.6000") run.request_throughput *= 1.05;
  }
  return run;
}

TEST(ReproductionTest, RunsEverySystemOnEverySeedAtSharesOfTheBaselinesSaturation) {
  std::vector<std::string> rates;
  std::size_t calls = 0;
  std::size_t done = 0;
  const auto result = reproduce(
      plan(), {1, 2, 3},
      [&](const std::vector<std::string>& flags, std::uint64_t seed) {
        ++calls;
        EXPECT_EQ(after(flags, "--model"), "m");
        if (!has(flags, "--request-rate")) {
          EXPECT_TRUE(has(flags, "--a"));
          EXPECT_EQ(after(flags, "--num-prompts"), "5000");
        } else {
          EXPECT_EQ(after(flags, "--num-prompts"), "1000");
        }
        rates.push_back(after(flags, "--request-rate"));
        return Result<RunNumbers>(numbers(flags, seed));
      },
      [&](std::size_t count) { done = count; });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(calls, runs_of(plan(), 3));
  EXPECT_EQ(calls, 2U * (3 + 2 * 3 * 3));
  EXPECT_EQ(done, calls);
  EXPECT_EQ(std::ranges::count(rates, ""), 6);
  EXPECT_EQ(std::ranges::count(rates, "4.0000"), 18);
  EXPECT_EQ(std::ranges::count(rates, "9.6000"), 18);
  ASSERT_EQ(result->cells.size(), 4U);
  EXPECT_EQ(result->cells[0].runs.at("new").size(), 3U);
}

TEST(ReproductionTest, ClaimsAreHeldAgainstTheBestBaselineOfEachMetric) {
  const auto result = reproduce(
      plan(), {1, 2},
      [](const std::vector<std::string>& flags, std::uint64_t seed) {
        return Result<RunNumbers>(numbers(flags, seed));
      },
      [](std::size_t) {});
  ASSERT_TRUE(result.ok());
  const std::string text = reproduction_text(plan(), *result);
  EXPECT_THAT(text,
              HasSubstr("TTFT up to -50 % [P], `new`: found -50.0 % (long at 0.5): reproduced"));
  EXPECT_THAT(text,
              HasSubstr("TPOT -10 % [R], `new`: found +0.0 % (mean of 4 cells): not reproduced"));
  EXPECT_THAT(text,
              HasSubstr("throughput +3 % [P], `new`: found +5.0 % (mean of 2 cells): reproduced"));
  const Json json = reproduction_to_json(plan(), *result);
  EXPECT_EQ(json["claims"].size(), 3U);
  EXPECT_EQ(json["claims"][0]["reproduced"], true);
  EXPECT_EQ(json["cells"].size(), 4U * 3);
  EXPECT_EQ(json["cells"][0]["runs"].size(), 2U);
}

TEST(ReproductionTest, ARunThatFailsEndsAll) {
  std::size_t calls = 0;
  const auto result = reproduce(
      plan(), {1},
      [&](const std::vector<std::string>& flags, std::uint64_t seed) {
        if (++calls == 5) return Result<RunNumbers>(invalid_argument("the fifth"));
        return Result<RunNumbers>(numbers(flags, seed));
      },
      [](std::size_t) {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message, "the fifth");
  EXPECT_EQ(calls, 5U);
}

TEST(ReproductionTest, PlansAreFoundByName) {
  for (const std::string& name : reproduction_names()) {
    const auto found = find_reproduction(name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->name, name);
    EXPECT_TRUE(found->systems.front().baseline);
    for (const PaperClaim& claim : found->claims) {
      EXPECT_TRUE(std::ranges::any_of(found->systems, [&](const ReproducedSystem& system) {
        return system.name == claim.system && !system.baseline;
      })) << claim.text;
    }
  }
  EXPECT_THAT(find_reproduction("v3").error().message, HasSubstr("v1, v2, front"));
}

}  // namespace
}  // namespace gimbal::apps
