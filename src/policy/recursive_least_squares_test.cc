#include "policy/recursive_least_squares.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/random.h"

namespace gimbal::policy {
namespace {

using Fit = RecursiveLeastSquares<3>;

TEST(RecursiveLeastSquaresTest, FindsTheCoefficientsOfALinearLaw) {
  Fit fit({1, 100, 1e5}, 0.995);
  Rng rng(1);
  for (int i = 0; i < 200; ++i) {
    const Fit::Vector x{1, 300 * rng.uniform(), 2e5 * rng.uniform()};
    fit.add(x, 3 - 0.02 * x[1] + 4e-5 * x[2], 1);
  }
  EXPECT_NEAR(fit.coefficient(0), 3, 1e-6);
  EXPECT_NEAR(fit.coefficient(1), -0.02, 1e-8);
  EXPECT_NEAR(fit.coefficient(2), 4e-5, 1e-11);
}

// The reference: the weighted sums over all samples, solved once, by Cramer's rule.
TEST(RecursiveLeastSquaresTest, EqualsTheBatchSolutionWithForgetting) {
  constexpr double kForgetting = 0.97;
  RecursiveLeastSquares<2> fit({1, 1}, kForgetting);
  Rng rng(2);
  double a = 0;
  double b = 0;
  double c = 0;
  double d = 0;
  double e = 0;
  for (int i = 0; i < 300; ++i) {
    const double x = rng.uniform();
    const double y = 2 + 3 * x + rng.uniform() + 0.01 * i;
    const double w = 0.5 + rng.uniform();
    fit.add({1, x}, y, w);
    a = kForgetting * a + w;
    b = kForgetting * b + w * x;
    c = kForgetting * c + w * x * x;
    d = kForgetting * d + w * y;
    e = kForgetting * e + w * x * y;
  }
  const double determinant = a * c - b * b;
  EXPECT_NEAR(fit.coefficient(0), (d * c - b * e) / determinant, 1e-4);
  EXPECT_NEAR(fit.coefficient(1), (a * e - b * d) / determinant, 1e-4);
}

TEST(RecursiveLeastSquaresTest, PredictsWithFeaturesThatAreCollinear) {
  Fit fit({1, 1, 1}, 0.99);
  Rng rng(3);
  for (int i = 0; i < 20'000; ++i) {
    const double x = rng.uniform();
    fit.add({1, x, 2 * x}, 1 + 5 * x + 0.01 * (rng.uniform() - 0.5), 1);
    ASSERT_LT(std::abs(fit.coefficient(1)) + std::abs(fit.coefficient(2)), 10);
  }
  EXPECT_NEAR(fit.predict({1, 0.5, 1}), 3.5, 0.01);
}

TEST(RecursiveLeastSquaresTest, KeepsWhatItKnowsOfFeaturesThatRest) {
  Fit fit({1, 1, 1}, 0.99);
  Rng rng(4);
  for (int i = 0; i < 500; ++i) {
    const Fit::Vector x{1, rng.uniform(), rng.uniform()};
    fit.add(x, 1 + 2 * x[1] + 3 * x[2], 1);
  }
  for (int i = 0; i < 100'000; ++i) {  // far beyond what the forgetting leaves of the first ones
    const double x = rng.uniform();
    fit.add({1, x, 0}, 1 + 2 * x + 0.1 * (rng.uniform() - 0.5), 1);
  }
  EXPECT_NEAR(fit.coefficient(2), 3, 0.1);
  fit.add({1, 0.5, 1}, 5, 1);  // and learns at once when it moves again
  EXPECT_NEAR(fit.predict({1, 0.5, 1}), 5, 0.1);
}

TEST(RecursiveLeastSquaresTest, FollowsALawThatChanges) {
  RecursiveLeastSquares<2> fit({1, 1}, 0.995);
  Rng rng(5);
  for (int i = 0; i < 2'500; ++i) {
    const double x = rng.uniform();
    fit.add({1, x}, (i < 1'000 ? 1 : 2) * (1 + x), 1);
  }
  EXPECT_NEAR(fit.predict({1, 1}), 4, 0.01);
}

TEST(RecursiveLeastSquaresTest, IgnoresWhatIsNotFinite) {
  RecursiveLeastSquares<2> fit({1, 1}, 0.995);
  fit.add({1, 2}, 3, 1);
  const double before = fit.predict({1, 2});
  fit.add({1, std::numeric_limits<double>::infinity()}, 3, 1);
  fit.add({1, 2}, std::numeric_limits<double>::quiet_NaN(), 1);
  fit.add({1, 2}, 3, std::numeric_limits<double>::infinity());
  EXPECT_EQ(fit.predict({1, 2}), before);
  EXPECT_NEAR(before, 3, 1e-5);
}

}  // namespace
}  // namespace gimbal::policy
