#include "report/bootstrap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "report/sample.h"

namespace gimbal::report {
namespace {

constexpr auto kLargest = [](std::span<const double> values) {
  return *std::max_element(values.begin(), values.end());
};

constexpr auto kMean = [](std::span<const double> values) {
  return Sample({values.begin(), values.end()}).mean();
};

// A sum of twelve uniforms: nearly normal with deviation 1.
double normal(Rng& rng) {
  double sum = -6.0;
  for (int i = 0; i < 12; ++i)
    sum += rng.uniform();
  return sum;
}

TEST(Bootstrap, IsReproducible) {
  const std::vector<double> values{1, 5, 2, 8, 3};
  const Interval first = bootstrap_mean(values, {.seed = 3});
  const Interval second = bootstrap_mean(values, {.seed = 3});
  EXPECT_EQ(first.low, second.low);
  EXPECT_EQ(first.high, second.high);
  EXPECT_DOUBLE_EQ(first.estimate, 3.8);
  EXPECT_LT(first.low, 3.8);
  EXPECT_GT(first.high, 3.8);
}

TEST(Bootstrap, OfOneValueHasNoWidth) {
  const std::vector<double> one{4.0};
  const Interval interval = bootstrap_mean(one);
  EXPECT_EQ(interval.estimate, 4.0);
  EXPECT_EQ(interval.low, 4.0);
  EXPECT_EQ(interval.high, 4.0);
  EXPECT_EQ(bootstrap_mean({}).estimate, 0.0);
}

TEST(Bootstrap, IsAsWideAsTheNormalTheorySays) {
  Rng rng(11);
  std::vector<double> values(400);
  for (double& value : values)
    value = 10.0 + normal(rng);
  const Interval interval = bootstrap_mean(values);
  const double expected = 2 * 1.96 * Sample(values).standard_deviation() / std::sqrt(400.0);
  EXPECT_NEAR(interval.high - interval.low, expected, 0.1 * expected);
}

TEST(Bootstrap, CoversTheTruthAboutAsOftenAsItSays) {
  Rng rng(5);
  int covered = 0;
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> values(40);
    for (double& value : values)
      value = normal(rng);
    const Interval interval =
        bootstrap_mean(values, {.resamples = 400, .seed = static_cast<std::uint64_t>(round)});
    covered += interval.low <= 0.0 && interval.high >= 0.0;
  }
  EXPECT_GT(covered, kRounds * 88 / 100);
  EXPECT_LT(covered, kRounds * 99 / 100);
}

TEST(Bootstrap, TakesAnyStatistic) {
  const std::vector<double> values{1, 2, 9};
  const Interval interval = bootstrap(values, kLargest);
  EXPECT_EQ(interval.estimate, 9.0);
  EXPECT_EQ(interval.high, 9.0);
  EXPECT_LT(interval.low, 9.0);
}

TEST(Bootstrap, PairsRemoveWhatRunsShare) {
  const std::vector<double> base{10, 100, 1000, 50, 20};
  std::vector<double> changed;
  for (const double value : base)
    changed.push_back(value * 0.7);
  const Interval paired = bootstrap_paired_ratio(base, changed);
  EXPECT_NEAR(paired.estimate, 0.7, 1e-12);
  EXPECT_NEAR(paired.low, 0.7, 1e-12);
  EXPECT_NEAR(paired.high, 0.7, 1e-12);
  const Interval unpaired = bootstrap_ratio(base, changed, kMean);
  EXPECT_NEAR(unpaired.estimate, 0.7, 1e-12);
  EXPECT_LT(unpaired.low, 0.6);
  EXPECT_GT(unpaired.high, 0.8);
}

TEST(Bootstrap, MeanOfRatiosIsNotTheRatioOfMeans) {
  const std::vector<double> base{1.0, 100.0};
  const std::vector<double> changed{2.0, 100.0};
  EXPECT_DOUBLE_EQ(bootstrap_paired_ratio(base, changed).estimate, 1.5);
  EXPECT_DOUBLE_EQ(bootstrap_ratio(base, changed, kMean).estimate, 102.0 / 101.0);
}

}  // namespace
}  // namespace gimbal::report
