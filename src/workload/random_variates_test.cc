#include "workload/random_variates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace gimbal::workload {
namespace {

struct Moments {
  double mean = 0.0;
  double variance = 0.0;
};

template <class Draw>
Moments moments_of(int count, Draw draw) {
  std::vector<double> values;
  double sum = 0.0;
  for (int i = 0; i < count; ++i) {
    values.push_back(static_cast<double>(draw()));
    sum += values.back();
  }
  Moments moments{.mean = sum / count};
  for (const double value : values) {
    moments.variance += (value - moments.mean) * (value - moments.mean) / count;
  }
  return moments;
}

constexpr int kMany = 200'000;

TEST(RandomVariates, NormalHasItsMomentsAndTails) {
  Rng rng(1);
  int beyond = 0;
  const Moments moments = moments_of(kMany, [&] {
    const double value = standard_normal(rng);
    beyond += std::abs(value) > 1.959964;
    return value;
  });
  EXPECT_NEAR(moments.mean, 0.0, 0.01);
  EXPECT_NEAR(moments.variance, 1.0, 0.02);
  EXPECT_NEAR(static_cast<double>(beyond) / kMany, 0.05, 0.003);
}

TEST(RandomVariates, GammaHasItsMomentsAtEveryShape) {
  for (const double shape : {0.25, 0.5, 1.0, 2.0, 20.0}) {
    Rng rng(2);
    const Moments moments = moments_of(kMany, [&] { return gamma(rng, shape); });
    EXPECT_NEAR(moments.mean, shape, 0.02 * shape + 0.005) << shape;
    EXPECT_NEAR(moments.variance, shape, 0.05 * shape) << shape;
  }
}

TEST(RandomVariates, GammaOfShapeOneIsExponential) {
  Rng rng(3);
  int above = 0;
  for (int i = 0; i < kMany; ++i)
    above += gamma(rng, 1.0) > 2.0;
  EXPECT_NEAR(static_cast<double>(above) / kMany, std::exp(-2.0), 0.004);
}

TEST(RandomVariates, ExponentialLogNormalAndGeometricHaveTheirMeans) {
  Rng rng(4);
  const Moments waits = moments_of(kMany, [&] { return exponential(rng, 3.0); });
  EXPECT_NEAR(waits.mean, 3.0, 0.04);
  EXPECT_NEAR(waits.variance, 9.0, 0.3);
  const Moments lengths = moments_of(kMany, [&] { return log_normal(rng, 100.0, 0.5); });
  EXPECT_NEAR(lengths.mean, 100.0, 1.0);
  EXPECT_NEAR(lengths.variance, 100.0 * 100.0 * (std::exp(0.25) - 1.0), 120.0);
  const Moments turns = moments_of(kMany, [&] { return geometric(rng, 4.0); });
  EXPECT_NEAR(turns.mean, 4.0, 0.05);
  EXPECT_NEAR(turns.variance, 12.0, 0.5);
  EXPECT_EQ(geometric(rng, 1.0), 1);
}

TEST(RandomVariates, AreReproducible) {
  Rng one(9);
  Rng two(9);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(gamma(one, 0.25), gamma(two, 0.25));
}

}  // namespace
}  // namespace gimbal::workload
