#include "workload/random_lengths.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "workload/random_variates.h"

namespace gimbal::workload {
namespace {

std::int64_t draw(std::int64_t length, const RandomLengthsOptions& options, Rng& rng) {
  const auto middle = static_cast<double>(length);
  if (options.sigma > 0.0) {
    const double drawn = std::min<double>(log_normal(rng, middle, options.sigma), kMostTokens);
    return std::max<std::int64_t>(1, std::llround(drawn));
  }
  const double ratio = options.range_ratio;
  const auto low = static_cast<std::int64_t>(std::floor(middle * (1.0 - ratio)));
  const auto high = static_cast<std::int64_t>(std::ceil(middle * (1.0 + ratio)));
  return std::max<std::int64_t>(1, rng.between(low, high));
}

Result<void> in(const char* field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid_argument(fmt::format("{} must be from {} to {}, is {}", field, low, high, value),
                          field);
}

}  // namespace

Result<void> validate(const RandomLengthsOptions& options) {
  GIMBAL_RETURN_IF_ERROR(in("num_prompts", options.num_prompts, 1, 100'000'000));
  GIMBAL_RETURN_IF_ERROR(in("input_len", options.input_len, 1, kMostTokens));
  GIMBAL_RETURN_IF_ERROR(in("output_len", options.output_len, 1, kMostTokens));
  GIMBAL_RETURN_IF_ERROR(in("prefix_len", options.prefix_len, 0, kMostTokens));
  if (!(options.range_ratio >= 0.0 && options.range_ratio <= 1.0)) {
    return invalid_argument(
        fmt::format("range_ratio must be from 0 to 1, is {}", options.range_ratio), "range_ratio");
  }
  if (!(options.sigma >= 0.0 && options.sigma <= 4.0)) {
    return invalid_argument(fmt::format("sigma must be from 0 to 4, is {}", options.sigma),
                            "sigma");
  }
  return {};
}

Workload generate_random_lengths(const RandomLengthsOptions& options, Rng& rng) {
  GIMBAL_CHECK(validate(options).ok());
  Workload workload{.has_prefixes = options.prefix_len > 0};
  workload.name = options.sigma > 0.0
                      ? fmt::format("log-normal lengths, {} in and {} out, sigma {:g}",
                                    options.input_len, options.output_len, options.sigma)
                      : fmt::format("random lengths, {} in and {} out, ratio {:g}",
                                    options.input_len, options.output_len, options.range_ratio);
  const PromptPart prefix{.identity = rng(), .tokens = options.prefix_len};
  for (std::int64_t i = 0; i < options.num_prompts; ++i) {
    RequestSpec request;
    if (options.prefix_len > 0) request.prompt.push_back(prefix);
    request.prompt.push_back({.identity = rng(), .tokens = draw(options.input_len, options, rng)});
    request.output_tokens = draw(options.output_len, options, rng);
    workload.requests.push_back(std::move(request));
  }
  return workload;
}

}  // namespace gimbal::workload
