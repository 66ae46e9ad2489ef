#include "workload/length_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "base/check.h"
#include "workload/random_variates.h"

namespace gimbal::workload {
namespace {

constexpr std::int64_t kLongestPrompt = 10'000'000;
constexpr std::int64_t kMostPrompts = 100'000'000;
constexpr double kRandomMedian = 256.0;
constexpr double kRandomSigma = 1.2;

constexpr std::array kNames{
    LengthName{"random", LengthShape::kRandom},
    LengthName{"central", LengthShape::kCentral},
    LengthName{"descending", LengthShape::kDescending},
    LengthName{"descending-arrival", LengthShape::kDescending, true},
    LengthName{"two-end", LengthShape::kTwoEnd},
    LengthName{"average", LengthShape::kAverage},
};

// Draws until a value falls into [low, high]; after many misses takes the nearer end, so that a
// range far from the law's bulk ends too.
template <class Draw>
double inside(double low, double high, Draw draw) {
  double value = low;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    value = draw();
    if (value >= low && value <= high) return value;
  }
  return std::clamp(value, low, high);
}

std::int64_t draw_output(std::int64_t prompt_tokens, const LengthOptions& options, Rng& rng) {
  const double drawn = log_normal(rng, mean_output_tokens(prompt_tokens), options.output_sigma);
  return std::clamp<std::int64_t>(std::llround(drawn), 1, options.max_output);
}

// Lengths that sum to exactly `total`: drawn until it is reached; the last is cut to fit. Where too
// little is left for one more prompt, others take it up.
std::vector<std::int64_t> draw_total(const LengthOptions& options, std::int64_t total, Rng& rng) {
  std::vector<std::int64_t> lengths;
  std::int64_t left = total;
  while (left >= options.min_tokens) {
    const std::int64_t drawn =
        draw_length(options.shape, options.min_tokens, options.max_tokens, rng);
    lengths.push_back(std::min(drawn, left));
    left -= lengths.back();
  }
  for (std::int64_t& length : lengths) {
    const std::int64_t more = std::min(left, options.max_tokens - length);
    length += more;
    left -= more;
  }
  return lengths;
}

std::vector<std::int64_t> draw_lengths(const LengthOptions& options, Rng& rng) {
  if (options.equal_total) {
    const std::int64_t total = options.num_prompts * (options.min_tokens + options.max_tokens) / 2;
    return draw_total(options, total, rng);
  }
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(options.num_prompts));
  for (std::int64_t& length : lengths) {
    length = draw_length(options.shape, options.min_tokens, options.max_tokens, rng);
  }
  return lengths;
}

}  // namespace

std::string_view to_string(LengthShape shape) {
  for (const LengthName& known : kNames) {
    if (known.shape == shape && !known.long_first) return known.name;
  }
  GIMBAL_CHECK(false, "a shape without a row in the table");
  return {};
}

std::span<const LengthName> length_names() {
  return kNames;
}

std::string length_names_text() {
  std::string text;
  for (const LengthName& known : kNames) {
    if (&known != kNames.data()) text += &known == &kNames.back() ? " or " : ", ";
    text += known.name;
    if (known.long_first) text += " (long ones first)";
  }
  return text;
}

Result<LengthName> parse_length_name(std::string_view name) {
  for (const LengthName& known : kNames) {
    if (known.name == name) return known;
  }
  return invalid_argument(fmt::format("lengths are {}, not '{}'", length_names_text(), name),
                          "lengths");
}

Result<void> validate(const LengthOptions& options) {
  if (options.min_tokens < 1 || options.max_tokens < options.min_tokens ||
      options.max_tokens > kLongestPrompt) {
    return invalid_argument(fmt::format("prompt lengths must be from 1 to {}, min first, are {}:{}",
                                        kLongestPrompt, options.min_tokens, options.max_tokens),
                            "prompt_range");
  }
  if (options.num_prompts < 1 || options.num_prompts > kMostPrompts) {
    return invalid_argument(fmt::format("the number of prompts must be from 1 to {}, is {}",
                                        kMostPrompts, options.num_prompts),
                            "num_prompts");
  }
  if (!(options.output_sigma >= 0.0 && options.output_sigma <= 3.0)) {
    return invalid_argument(
        fmt::format("the deviation of output lengths must be from 0 to 3, is {}",
                    options.output_sigma),
        "output_sigma");
  }
  if (options.max_output < 1) {
    return invalid_argument(
        fmt::format("the longest output has at least one token, not {}", options.max_output),
        "max_output");
  }
  return {};
}

std::int64_t draw_length(LengthShape shape, std::int64_t min, std::int64_t max, Rng& rng) {
  GIMBAL_CHECK(min <= max);
  const auto low = static_cast<double>(min);
  const auto high = static_cast<double>(max);
  const double range = high - low;
  switch (shape) {
    case LengthShape::kRandom:
      return std::llround(inside(low, high, [&] {
        return kRandomMedian * std::exp(kRandomSigma * standard_normal(rng));
      }));
    case LengthShape::kCentral:
      return std::llround(
          inside(low, high, [&] { return low + range / 2 + range / 6 * standard_normal(rng); }));
    case LengthShape::kDescending:  // the inverse of F(x) = 1 − (1 − x)² on [0, 1]
      return std::llround(low + range * (1.0 - std::sqrt(1.0 - rng.uniform())));
    case LengthShape::kTwoEnd: {
      const double place = rng.uniform() * range / 10;
      return std::llround(rng.below(2) == 0 ? low + place : high - place);
    }
    case LengthShape::kAverage:
      return rng.between(min, max);
  }
  return min;
}

double mean_output_tokens(std::int64_t prompt_tokens) {
  constexpr std::array<std::pair<double, double>, 6> kPoints{
      {{30, 260}, {130, 155}, {350, 170}, {1000, 260}, {1500, 350}, {2000, 450}}};
  const auto x = static_cast<double>(prompt_tokens);
  if (x <= kPoints.front().first) return kPoints.front().second;
  for (std::size_t i = 1; i < kPoints.size(); ++i) {
    const auto [x0, y0] = kPoints[i - 1];
    const auto [x1, y1] = kPoints[i];
    if (x <= x1) return std::lerp(y0, y1, (x - x0) / (x1 - x0));
  }
  return kPoints.back().second;
}

Workload generate_lengths(const LengthOptions& options, Rng& rng) {
  GIMBAL_CHECK(validate(options).ok());
  std::vector<std::int64_t> lengths = draw_lengths(options, rng);
  if (options.long_first) std::sort(lengths.rbegin(), lengths.rend());
  Workload workload;
  workload.name = fmt::format("{} lengths {}:{}{}", to_string(options.shape), options.min_tokens,
                              options.max_tokens, options.long_first ? ", long ones first" : "");
  for (const std::int64_t length : lengths) {
    RequestSpec request;
    request.prompt.push_back({.identity = rng(), .tokens = length});
    request.output_tokens = draw_output(length, options, rng);
    workload.requests.push_back(std::move(request));
  }
  return workload;
}

}  // namespace gimbal::workload
