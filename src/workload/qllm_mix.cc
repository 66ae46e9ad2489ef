#include "workload/qllm_mix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/check.h"
#include "workload/random_variates.h"
#include "workload/transforms.h"

namespace gimbal::workload {
namespace {

constexpr double kMeanPrompt = 215.0;
constexpr double kPromptSigma = 1.2;
constexpr double kMeanOutput = 200.0;
constexpr double kOutputSigma = 1.0;
constexpr double kLongest = 8192.0;  // ShareGPT's filtered conversations end there

std::int64_t draw(double mean, double sigma, Rng& rng) {
  return std::llround(std::clamp(log_normal(rng, mean, sigma), 1.0, kLongest));
}

}  // namespace

Result<void> validate(const QllmMixOptions& options) {
  if (options.num_prompts < 1 || options.num_prompts > 100'000'000) {
    return invalid_argument(
        fmt::format("num_prompts must be from 1 to 1e8, is {}", options.num_prompts),
        "num_prompts");
  }
  if (!(options.latency_sensitive_share >= 0.0 && options.latency_sensitive_share <= 1.0)) {
    return invalid_argument(fmt::format("the latency-sensitive share must be from 0 to 1, is {}",
                                        options.latency_sensitive_share),
                            "ls_share");
  }
  if (options.prompt_cap.value_or(1) < 1) {
    return invalid_argument(fmt::format("a prompt cap is at least 1, not {}", *options.prompt_cap),
                            "prompt_cap");
  }
  if (options.output_cap.value_or(1) < 1) {
    return invalid_argument(fmt::format("an output cap is at least 1, not {}", *options.output_cap),
                            "output_cap");
  }
  return {};
}

Workload generate_qllm_mix(const QllmMixOptions& options, const Workload* lengths, Rng& rng) {
  GIMBAL_CHECK(validate(options).ok());
  const auto count = static_cast<std::size_t>(options.num_prompts);
  Workload workload;
  if (lengths != nullptr) {
    workload = sample_requests(*lengths, count, rng);
  } else {
    workload.name = "ShareGPT-like lengths";
    for (std::size_t i = 0; i < count; ++i) {
      RequestSpec request;
      request.prompt.push_back({.identity = rng(), .tokens = draw(kMeanPrompt, kPromptSigma, rng)});
      request.output_tokens = draw(kMeanOutput, kOutputSigma, rng);
      workload.requests.push_back(std::move(request));
    }
  }
  cap_lengths(workload, options.prompt_cap, options.output_cap);
  assign_classes(workload, options.latency_sensitive_share, rng);
  const auto cap = [](const std::optional<std::int64_t>& value) {
    return value ? fmt::format("{}", *value) : std::string("none");
  };
  workload.name = fmt::format(
      "QLLM mix of {}: {:g} latency-sensitive, prompt cap {}, output cap {}", workload.name,
      options.latency_sensitive_share, cap(options.prompt_cap), cap(options.output_cap));
  return workload;
}

}  // namespace gimbal::workload
