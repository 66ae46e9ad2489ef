#include "workload/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace gimbal::workload {
namespace {

using std::chrono::seconds;

Workload of(std::size_t count) {
  Workload workload;
  workload.requests.resize(count);
  return workload;
}

struct Gaps {
  double mean = 0.0;
  double variation = 0.0;
  double share_below_half = 0.0;  // of the mean
};

Gaps gaps_of(const Workload& workload) {
  std::vector<double> gaps;
  Duration last{};
  for (const RequestSpec& request : workload.requests) {
    gaps.push_back(to_ms(request.arrival - last));
    last = request.arrival;
  }
  Gaps result;
  const auto count = static_cast<double>(gaps.size());
  for (const double gap : gaps)
    result.mean += gap / count;
  double variance = 0.0;
  for (const double gap : gaps) {
    variance += (gap - result.mean) * (gap - result.mean) / count;
    result.share_below_half += (gap < result.mean / 2) / count;
  }
  result.variation = std::sqrt(variance) / result.mean;
  return result;
}

TEST(Arrivals, TheLastComesAtNOverRateForEverySeed) {
  for (const double burstiness : {0.25, 1.0, 5.0}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      Workload workload = of(100);
      Rng rng(seed);
      draw_arrivals(workload, {.rate = 4.0, .burstiness = burstiness}, rng);
      EXPECT_EQ(workload.requests.back().arrival, seconds(25));
      EXPECT_TRUE(
          std::is_sorted(workload.requests.begin(), workload.requests.end(),
                         [](const auto& a, const auto& b) { return a.arrival < b.arrival; }));
      EXPECT_GE(workload.requests.front().arrival, Duration{});
      EXPECT_TRUE(workload.has_arrivals);
    }
  }
}

TEST(Arrivals, VaryAsTheirShapeSays) {
  for (const double shape : {0.25, 1.0, 4.0}) {
    Workload workload = of(100'000);
    Rng rng(3);
    draw_arrivals(workload, {.rate = 10.0, .burstiness = shape}, rng);
    const Gaps gaps = gaps_of(workload);
    EXPECT_NEAR(gaps.mean, 100.0, 1e-6);
    EXPECT_NEAR(gaps.variation, 1.0 / std::sqrt(shape), 0.02 / shape) << shape;
    if (shape == 1.0) {
      EXPECT_NEAR(gaps.share_below_half, 1.0 - std::exp(-0.5), 0.01);
    }
  }
}

TEST(Arrivals, WithoutARateAllComeAtOnce) {
  Workload workload = of(5);
  workload.requests[3].arrival = seconds(7);
  Rng rng(1);
  draw_arrivals(workload, {}, rng);
  for (const RequestSpec& request : workload.requests)
    EXPECT_EQ(request.arrival, Duration{});
}

TEST(Arrivals, OfTinyShapeStillEndInTime) {
  Workload workload = of(3);
  Rng rng(1);
  draw_arrivals(workload, {.rate = 1.0, .burstiness = 1e-3}, rng);
  EXPECT_EQ(workload.requests.back().arrival, seconds(3));
}

TEST(Arrivals, RescalingKeepsThePattern) {
  Workload workload = of(4);
  for (int i = 0; i < 4; ++i)
    workload.requests[static_cast<std::size_t>(i)].arrival = seconds(i * i);
  rescale_arrivals(workload, 2.0);  // 9 s become 2 s
  EXPECT_EQ(workload.requests[3].arrival, seconds(2));
  EXPECT_NEAR(to_ms(workload.requests[2].arrival), 2000.0 * 4 / 9, 1e-3);
  Workload still = of(3);
  rescale_arrivals(still, 2.0);
  EXPECT_EQ(still.requests[2].arrival, Duration{});
  Workload none;
  rescale_arrivals(none, 2.0);
}

TEST(Arrivals, RefusesWhatIsNoRate) {
  EXPECT_TRUE(validate(ArrivalOptions{}).ok());
  // The last of 1000 would come later than a Duration holds.
  EXPECT_TRUE(validate({.rate = 1e-6}, 1000).ok());
  EXPECT_EQ(validate({.rate = 1e-7}, 1000).error().field, "request_rate");
  EXPECT_EQ(validate({.rate = 5e-324}).error().field, "request_rate");
  for (const double bad : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_EQ(validate({.rate = bad}).error().field, "request_rate");
    EXPECT_EQ(validate({.rate = 1.0, .burstiness = bad}).error().field, "burstiness");
  }
}

}  // namespace
}  // namespace gimbal::workload
