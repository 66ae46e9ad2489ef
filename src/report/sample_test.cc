#include "report/sample.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace gimbal::report {
namespace {

// Expected values are numpy's: np.mean, np.std, np.percentile of the same lists.
TEST(Sample, AgreesWithNumpyOnAnOddNumber) {
  const Sample sample({7.0, 1.0, 4.0, 10.0, 2.0});
  EXPECT_DOUBLE_EQ(sample.mean(), 4.8);
  EXPECT_NEAR(sample.standard_deviation(), 3.3105890714493698, 1e-12);
  EXPECT_DOUBLE_EQ(sample.median(), 4.0);
  EXPECT_DOUBLE_EQ(sample.percentile(90), 8.8);
  EXPECT_DOUBLE_EQ(sample.percentile(99), 9.88);
  EXPECT_DOUBLE_EQ(sample.percentile(25), 2.0);
}

TEST(Sample, TakesTheMiddleBetweenTwo) {
  const Sample sample({4.0, 1.0, 2.0, 3.0});
  EXPECT_DOUBLE_EQ(sample.median(), 2.5);
  EXPECT_DOUBLE_EQ(sample.percentile(0), 1.0);
  EXPECT_DOUBLE_EQ(sample.percentile(100), 4.0);
}

TEST(Sample, OfOneValueIsThatValueEverywhere) {
  const Sample sample({2.5});
  EXPECT_EQ(sample.mean(), 2.5);
  EXPECT_EQ(sample.standard_deviation(), 0.0);
  EXPECT_EQ(sample.percentile(1), 2.5);
  EXPECT_EQ(sample.percentile(99), 2.5);
}

TEST(Sample, OfNothingIsZero) {
  const Sample sample;
  EXPECT_EQ(sample.mean(), 0.0);
  EXPECT_EQ(sample.standard_deviation(), 0.0);
  EXPECT_EQ(sample.percentile(99), 0.0);
  EXPECT_EQ(sample.min(), 0.0);
  EXPECT_EQ(sample.max(), 0.0);
}

TEST(Sample, PercentilesRiseWithPAndStayInside) {
  Rng rng(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<double> values(1 + rng.below(40));
    for (double& value : values)
      value = rng.uniform() * 100 - 50;
    const Sample sample(values);
    double last = sample.min();
    for (int p = 0; p <= 100; ++p) {
      const double now = sample.percentile(p);
      EXPECT_GE(now, last - 1e-12);
      EXPECT_LE(now, sample.max());
      last = now;
    }
  }
}

}  // namespace
}  // namespace gimbal::report
