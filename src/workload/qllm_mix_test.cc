#include "workload/qllm_mix.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gimbal::workload {
namespace {

TEST(QllmMix, HasItsShareAndItsCaps) {
  Rng rng(1);
  const Workload workload =
      generate_qllm_mix({.num_prompts = 20'000, .output_cap = 64}, nullptr, rng);
  double sensitive = 0.0;
  int at_cap = 0;
  for (const RequestSpec& request : workload.requests) {
    sensitive += request.traffic_class == TrafficClass::kLatencySensitive;
    EXPECT_NE(request.traffic_class, TrafficClass::kNone);
    EXPECT_LE(request.prompt_tokens(), 1024);
    EXPECT_LE(request.output_tokens, 64);
    at_cap += request.output_tokens == 64;
  }
  EXPECT_NEAR(sensitive / 20'000, 0.2, 0.01);
  EXPECT_GT(at_cap, 10'000);
  EXPECT_FALSE(workload.has_arrivals);
}

TEST(QllmMix, WithoutCapsHasShareGptsMeans) {
  Rng rng(2);
  const Workload workload =
      generate_qllm_mix({.num_prompts = 100'000, .prompt_cap = {}}, nullptr, rng);
  double prompt = 0.0;
  double output = 0.0;
  for (const RequestSpec& request : workload.requests) {
    prompt += static_cast<double>(request.prompt_tokens()) / 100'000;
    output += static_cast<double>(request.output_tokens) / 100'000;
  }
  EXPECT_NEAR(prompt, 215.0, 6.0);
  EXPECT_NEAR(output, 200.0, 5.0);
}

TEST(QllmMix, TakesTheLengthsOfATrace) {
  Workload trace;
  trace.name = "trace.csv";
  for (std::uint64_t i = 0; i < 3; ++i) {
    RequestSpec request;
    request.prompt.push_back({i, static_cast<std::int64_t>(1000 * (i + 1))});
    request.output_tokens = 7;
    trace.requests.push_back(request);
  }
  Rng rng(3);
  const Workload workload = generate_qllm_mix({.num_prompts = 30}, &trace, rng);
  ASSERT_EQ(workload.requests.size(), 30u);
  int capped = 0;
  for (const RequestSpec& request : workload.requests) {
    EXPECT_EQ(request.output_tokens, 7);
    capped += request.prompt_tokens() == 1024;
  }
  EXPECT_EQ(capped, 20);  // 2000 and 3000, ten times each
  EXPECT_NE(workload.name.find("trace.csv"), std::string::npos);
}

TEST(QllmMix, RefusesWhatMakesNoSense) {
  EXPECT_TRUE(validate(QllmMixOptions{}).ok());
  EXPECT_EQ(validate(QllmMixOptions{.num_prompts = 0}).error().field, "num_prompts");
  EXPECT_EQ(validate({.latency_sensitive_share = 1.1}).error().field, "ls_share");
  EXPECT_EQ(validate({.latency_sensitive_share = std::nan("")}).error().field, "ls_share");
  EXPECT_EQ(validate({.prompt_cap = 0}).error().field, "prompt_cap");
  EXPECT_EQ(validate({.output_cap = 0}).error().field, "output_cap");
}

}  // namespace
}  // namespace gimbal::workload
