#include "workload/length_shapes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <vector>

namespace gimbal::workload {
namespace {

std::vector<double> draws(LengthShape shape, int count) {
  Rng rng(1);
  std::vector<double> values;
  for (int i = 0; i < count; ++i) {
    values.push_back(static_cast<double>(draw_length(shape, 16, 2048, rng)));
  }
  std::sort(values.begin(), values.end());
  return values;
}

// The largest distance between the drawn distribution and F: Kolmogorov and Smirnov's statistic.
double distance(const std::vector<double>& sorted, const std::function<double(double)>& cdf) {
  double worst = 0.0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const double expected = cdf(sorted[i] + 0.5);  // lengths are rounded
    const auto upper = std::upper_bound(sorted.begin(), sorted.end(), sorted[i]);
    const double share =
        static_cast<double>(upper - sorted.begin()) / static_cast<double>(sorted.size());
    worst = std::max(worst, std::abs(share - expected));
  }
  return worst;
}

double normal_cdf(double z) {
  return 0.5 * std::erfc(-z / std::sqrt(2.0));
}

constexpr int kDraws = 20'000;
constexpr double kCritical = 1.63 / 141.42;  // 1 % level at 20 000 draws

TEST(LengthShapes, AverageIsUniform) {
  EXPECT_LT(distance(draws(LengthShape::kAverage, kDraws),
                     [](double x) { return std::clamp((x - 15.5) / 2033.0, 0.0, 1.0); }),
            kCritical);
}

TEST(LengthShapes, CentralIsATruncatedNormal) {
  const double edge = normal_cdf(-3.0);
  EXPECT_LT(distance(draws(LengthShape::kCentral, kDraws),
                     [&](double x) {
                       const double z = (x - 1032.0) / (2032.0 / 6);
                       return std::clamp((normal_cdf(z) - edge) / (1 - 2 * edge), 0.0, 1.0);
                     }),
            kCritical);
}

TEST(LengthShapes, DescendingFallsOnALine) {
  EXPECT_LT(distance(draws(LengthShape::kDescending, kDraws),
                     [](double x) {
                       const double place = std::clamp((x - 16.0) / 2032.0, 0.0, 1.0);
                       return 1.0 - (1.0 - place) * (1.0 - place);
                     }),
            kCritical);
}

TEST(LengthShapes, TwoEndIsHalfShortestHalfLongest) {
  const auto values = draws(LengthShape::kTwoEnd, kDraws);
  const auto middle =
      std::count_if(values.begin(), values.end(), [](double x) { return x > 220.0 && x < 1844.0; });
  EXPECT_EQ(middle, 0);
  EXPECT_LT(distance(values,
                     [](double x) {
                       if (x < 1032.0) return std::clamp((x - 16.0) / 203.2, 0.0, 1.0) / 2;
                       return 0.5 + std::clamp((x - 1844.8) / 203.2, 0.0, 1.0) / 2;
                     }),
            kCritical);
}

TEST(LengthShapes, RandomIsATruncatedLogNormal) {
  const auto cdf = [](double x) { return normal_cdf(std::log(x / 256.0) / 1.2); };
  const double low = cdf(16.0);
  const double high = cdf(2048.0);
  EXPECT_LT(distance(draws(LengthShape::kRandom, kDraws),
                     [&](double x) { return std::clamp((cdf(x) - low) / (high - low), 0.0, 1.0); }),
            kCritical);
}

TEST(LengthShapes, EveryShapeHasTheSameTotal) {
  for (const LengthShape shape : kLengthShapes) {
    for (const std::int64_t prompts : {1, 3, 50, 1000}) {
      for (std::uint64_t seed = 0; seed < 5; ++seed) {
        Rng rng(seed);
        const Workload workload = generate_lengths({.shape = shape, .num_prompts = prompts}, rng);
        std::int64_t total = 0;
        for (const RequestSpec& request : workload.requests) {
          total += request.prompt_tokens();
          EXPECT_GE(request.prompt_tokens(), 16);
          EXPECT_LE(request.prompt_tokens(), 2048);
        }
        EXPECT_EQ(total, prompts * 1032) << to_string(shape) << " " << prompts;
      }
    }
  }
}

TEST(LengthShapes, OrTheSameNumber) {
  for (const LengthShape shape : kLengthShapes) {
    Rng rng(1);
    EXPECT_EQ(generate_lengths({.shape = shape, .num_prompts = 321, .equal_total = false}, rng)
                  .requests.size(),
              321u);
  }
}

TEST(LengthShapes, LongFirstSortsByLength) {
  Rng rng(2);
  const Workload workload = generate_lengths(
      {.shape = LengthShape::kDescending, .num_prompts = 100, .long_first = true}, rng);
  EXPECT_TRUE(std::is_sorted(
      workload.requests.begin(), workload.requests.end(),
      [](const auto& a, const auto& b) { return a.prompt_tokens() > b.prompt_tokens(); }));
}

TEST(LengthShapes, OutputsFollowTheLengthOfThePrompt) {
  EXPECT_DOUBLE_EQ(mean_output_tokens(1), 260);
  EXPECT_DOUBLE_EQ(mean_output_tokens(30), 260);
  EXPECT_DOUBLE_EQ(mean_output_tokens(130), 155);
  EXPECT_DOUBLE_EQ(mean_output_tokens(240), 162.5);
  EXPECT_DOUBLE_EQ(mean_output_tokens(1500), 350);
  EXPECT_DOUBLE_EQ(mean_output_tokens(5000), 450);
  for (const std::int64_t prompt : {130, 1000, 2000}) {
    Rng rng(4);
    const Workload workload = generate_lengths(
        {.min_tokens = prompt, .max_tokens = prompt, .num_prompts = 20'000, .max_output = 100'000},
        rng);
    double mean = 0.0;
    double log_square = 0.0;
    const double expected = mean_output_tokens(prompt);
    for (const RequestSpec& request : workload.requests) {
      const auto output = static_cast<double>(request.output_tokens);
      mean += output / 20'000;
      const double centered = std::log(output / expected) + 0.125;
      log_square += centered * centered / 20'000;
    }
    EXPECT_NEAR(mean, expected, 0.02 * expected);
    EXPECT_NEAR(std::sqrt(log_square), 0.5, 0.01);
  }
}

TEST(LengthShapes, ArePromptsOfTheirOwnAndReproducible) {
  Rng one(5);
  Rng two(5);
  const Workload first = generate_lengths({.num_prompts = 200}, one);
  const Workload second = generate_lengths({.num_prompts = 200}, two);
  EXPECT_EQ(first.requests, second.requests);
  std::set<std::uint64_t> identities;
  for (const RequestSpec& request : first.requests) {
    identities.insert(request.prompt.front().identity);
  }
  EXPECT_EQ(identities.size(), first.requests.size());
  EXPECT_FALSE(first.has_prefixes);
}

TEST(LengthShapes, RefusesRangesAndNumbersThatMakeNoSense) {
  EXPECT_TRUE(validate(LengthOptions{}).ok());
  EXPECT_EQ(validate({.min_tokens = 0}).error().field, "prompt_range");
  EXPECT_EQ(validate({.min_tokens = 9, .max_tokens = 8}).error().field, "prompt_range");
  EXPECT_EQ(validate({.max_tokens = 1 << 30}).error().field, "prompt_range");
  EXPECT_EQ(validate({.num_prompts = 0}).error().field, "num_prompts");
  EXPECT_EQ(validate({.output_sigma = std::nan("")}).error().field, "output_sigma");
  EXPECT_EQ(validate({.max_output = 0}).error().field, "max_output");
  EXPECT_EQ(
      parse_length_name("Random").error().message,
      "lengths are random, central, descending, descending-arrival (long ones first), two-end "
      "or average, not 'Random'");
  EXPECT_TRUE(parse_length_name("descending-arrival").value().long_first);
  EXPECT_EQ(parse_length_name("descending-arrival").value().shape, LengthShape::kDescending);
  for (const LengthName& known : length_names())
    EXPECT_EQ(parse_length_name(known.name).value().name, known.name);
  for (const LengthShape shape : kLengthShapes) {
    const LengthName named = parse_length_name(to_string(shape)).value();
    EXPECT_EQ(named.shape, shape);
    EXPECT_FALSE(named.long_first);
  }
}

}  // namespace
}  // namespace gimbal::workload
