#include "cluster/expert_pressure.h"

#include <gtest/gtest.h>

namespace gimbal::cluster {
namespace {

struct Counters {
  std::uint64_t steps = 0;
  std::uint64_t prefill = 0;
  std::vector<std::uint64_t> rows;      // [2 layers, 2 ranks]
  std::vector<std::uint64_t> distinct;  // the same
  [[nodiscard]] ExpertLoad load() const {
    return {.steps = steps, .prefill_rows = prefill, .rows = rows, .distinct_experts = distinct};
  }
};

double pressure_of(const ExpertPressure& pressure, int rank) {
  const Rank own[] = {Rank{rank}};
  return pressure.pressure(own).value_or(-1);
}

TEST(ExpertPressureTest, IsRowsByTheMeanOverRanks) {
  ExpertPressure pressure(2, 2);
  pressure.note({.steps = 0,
                 .rows = std::vector<std::uint64_t>(4),
                 .distinct_experts = std::vector<std::uint64_t>(4)});
  EXPECT_EQ(pressure_of(pressure, 0), -1);
  Counters counters{.steps = 63, .prefill = 9, .rows = {30, 10, 5, 5}, .distinct = {1, 1, 1, 1}};
  pressure.note(counters.load());
  EXPECT_EQ(pressure_of(pressure, 0), -1);  // not a window yet
  counters.steps = 64;
  pressure.note(counters.load());
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 0), (1.5 + 1.0) / 2);
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 1), (0.5 + 1.0) / 2);
  const Rank both[] = {Rank{1}, Rank{0}};
  EXPECT_DOUBLE_EQ(*pressure.pressure(both), 1.25);
  // The next window in which layer 1 stands still: half of it counts.
  counters = {.steps = 128, .prefill = 10, .rows = {30, 50, 5, 5}, .distinct = {1, 1, 1, 1}};
  pressure.note(counters.load());
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 0), (1.25 + 0) / 2);
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 1), (0.75 + 2) / 2);
}

TEST(ExpertPressureTest, WindowsOfDecodesCountDistinctExperts) {
  ExpertPressure pressure(1, 2);
  const std::vector<std::uint64_t> none(2);
  pressure.note({.steps = 0, .prefill_rows = 7, .rows = none, .distinct_experts = none});
  const std::vector<std::uint64_t> rows{90, 10};
  const std::vector<std::uint64_t> distinct{20, 60};
  pressure.note({.steps = 64, .prefill_rows = 7, .rows = rows, .distinct_experts = distinct});
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 0), 0.5);
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 1), 1.5);
}

TEST(ExpertPressureTest, MixedWindowsCountByWhatThingsCost) {
  // Rank 0 reads three times the experts in 63 steps of decodes; rank 1 gets a prompt's rows.
  const std::vector<std::uint64_t> none(2);
  const std::vector<std::uint64_t> rows{63 * 3, 63 + 2000};
  const std::vector<std::uint64_t> distinct{63 * 3, 63 + 10};
  const auto pressure_with = [&](policy::ExpertRunCost cost) {
    ExpertPressure pressure(1, 2);
    pressure.note({.steps = 0, .rows = none, .distinct_experts = none});
    pressure.note({.steps = 64,
                   .prefill_rows = 2000,
                   .rows = rows,
                   .distinct_experts = distinct,
                   .cost = cost});
    return pressure_of(pressure, 0);
  };
  EXPECT_LT(pressure_with({}), 0.2);
  EXPECT_GT(pressure_with({.ms_per_expert = 0.5, .ms_per_row = 0.001}), 1.4);
}

TEST(ExpertPressureTest, CostsAreThoseOfTheEngineThatHasSeenMostPrompts) {
  std::vector<EngineSnapshot> engines(3);
  EXPECT_EQ(expert_cost(engines).ms_per_row, 0);
  engines[0].prefill_rows = 100;
  engines[1].prefill_rows = 10;
  engines[1].step_times.emplace().service = {1, -0.2, 0.3};
  engines[2].prefill_rows = 20;
  engines[2].step_times.emplace().service = {1, 0.4, 0.5};
  EXPECT_EQ(expert_cost(engines).ms_per_row, 0.4);
  EXPECT_EQ(expert_cost(engines).ms_per_expert, 0.5);
  EXPECT_EQ(expert_cost(std::span(engines).first(2)).ms_per_row, 0);
  EXPECT_EQ(expert_cost(std::span(engines).first(2)).ms_per_expert, 0.3);
}

TEST(ExpertPressureTest, IsMutedForAWindowAfterExpertsMoved) {
  ExpertPressure pressure(1, 2);
  std::vector<std::uint64_t> rows(2);
  const auto run = [&](std::uint64_t steps) {
    rows[0] += 3 * steps;
    rows[1] += steps;
    return rows;
  };
  std::uint64_t steps = 0;
  const auto note = [&](std::uint64_t more) {
    steps += more;
    const auto now = run(more);
    pressure.note({.steps = steps, .prefill_rows = steps, .rows = now, .distinct_experts = now});
  };
  note(0);
  note(64);
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 0), 1.5);
  pressure.map_changed();
  EXPECT_EQ(pressure_of(pressure, 0), -1);
  note(1);
  note(63);  // the muted window
  EXPECT_EQ(pressure_of(pressure, 0), -1);
  note(1);
  EXPECT_DOUBLE_EQ(pressure_of(pressure, 0), 1.5);
}

TEST(ExpertPressureTest, OneRankHasNone) {
  EXPECT_EQ(ExpertPressure(4, 1).pressure({}), 1.0);
}

}  // namespace
}  // namespace gimbal::cluster
