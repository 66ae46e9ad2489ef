#include "workload/random_lengths.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "workload/statistics.h"

namespace gimbal::workload {
namespace {

TEST(RandomLengths, WithoutRatioAreAllEqual) {
  Rng rng(1);
  const Workload workload = generate_random_lengths({.num_prompts = 50}, rng);
  ASSERT_EQ(workload.requests.size(), 50u);
  for (const RequestSpec& request : workload.requests) {
    EXPECT_EQ(request.prompt_tokens(), 1024);
    EXPECT_EQ(request.output_tokens, 128);
  }
  EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, 0);
}

TEST(RandomLengths, AreUniformWithinTheirRatio) {
  Rng rng(2);
  const Workload workload = generate_random_lengths(
      {.num_prompts = 50'000, .input_len = 10, .output_len = 7, .range_ratio = 0.5}, rng);
  std::vector<int> inputs(16);
  std::vector<int> outputs(12);
  for (const RequestSpec& request : workload.requests) {
    ++inputs[static_cast<std::size_t>(request.prompt_tokens())];
    ++outputs[static_cast<std::size_t>(request.output_tokens)];
  }
  for (std::size_t length = 5; length <= 15; ++length) {
    EXPECT_NEAR(inputs[length], 50'000 / 11, 350) << length;
  }
  for (std::size_t length = 3; length <= 11; ++length) {  // 3.5 and 10.5, rounded outwards
    EXPECT_NEAR(outputs[length], 50'000 / 9, 400) << length;
  }
}

TEST(RandomLengths, ShareTheirPrefix) {
  Rng rng(3);
  const Workload workload =
      generate_random_lengths({.num_prompts = 4, .input_len = 10, .prefix_len = 100}, rng);
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 110);
  EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, 300);
  EXPECT_TRUE(workload.has_prefixes);
}

TEST(RandomLengths, RefusesWhatMakesNoSense) {
  EXPECT_TRUE(validate(RandomLengthsOptions{}).ok());
  EXPECT_EQ(validate(RandomLengthsOptions{.num_prompts = 0}).error().field, "num_prompts");
  EXPECT_EQ(validate({.input_len = 0}).error().field, "input_len");
  EXPECT_EQ(validate({.output_len = -1}).error().field, "output_len");
  EXPECT_EQ(validate({.prefix_len = -1}).error().field, "prefix_len");
  EXPECT_EQ(validate({.range_ratio = 1.5}).error().field, "range_ratio");
  EXPECT_EQ(validate({.range_ratio = std::nan("")}).error().field, "range_ratio");
}

TEST(RandomLengths, LogNormalLengthsHaveTheMeansAndTheSpread) {
  RandomLengthsOptions options{
      .num_prompts = 20'000, .input_len = 665, .output_len = 135, .sigma = 1.0};
  ASSERT_TRUE(validate(options).ok());
  Rng rng(4);
  const Workload workload = generate_random_lengths(options, rng);
  double in = 0;
  double out = 0;
  int below_median = 0;
  for (const RequestSpec& request : workload.requests) {
    EXPECT_GE(request.output_tokens, 1);
    in += static_cast<double>(request.prompt_tokens()) / 20'000;
    out += static_cast<double>(request.output_tokens) / 20'000;
    below_median += static_cast<double>(request.prompt_tokens()) < 665 * std::exp(-0.5) ? 1 : 0;
  }
  EXPECT_NEAR(in, 665, 25);
  EXPECT_NEAR(out, 135, 5);
  EXPECT_NEAR(below_median, 10'000, 300);
  for (const double wrong : {-1.0, 5.0, std::nan("")}) {
    options.sigma = wrong;
    EXPECT_EQ(validate(options).error().field, "sigma");
  }
}

}  // namespace
}  // namespace gimbal::workload
