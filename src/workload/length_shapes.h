#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// How prompt lengths are spread over [min, max], after the five BurstGPT distributions of the first
// Gimbal paper. Names and shapes are second-hand: the paper draws them and gives no formula.
enum class LengthShape : std::uint8_t {
  kRandom,   // independent, short ones frequent, long tail: log-normal, median 256, deviation 1.2
  kCentral,  // normal around the middle, a deviation of a sixth of the range, cut at its ends
  kDescending,  // density falls on a straight line from min to nothing at max
  kTwoEnd,      // half of them in the lowest tenth of the range, half in the highest
  kAverage,     // uniform
};
inline constexpr std::array kLengthShapes{LengthShape::kRandom, LengthShape::kCentral,
                                          LengthShape::kDescending, LengthShape::kTwoEnd,
                                          LengthShape::kAverage};
[[nodiscard]] std::string_view to_string(LengthShape shape);

// What prompt lengths can be asked for by.
struct LengthName {
  std::string_view name;
  LengthShape shape = LengthShape::kAverage;
  bool long_first = false;  // the longest prompt comes first
};
// random, central, descending, descending-arrival (long ones first), two-end, average.
[[nodiscard]] std::span<const LengthName> length_names();
// The names as a sentence has them, with what is said of them in brackets.
[[nodiscard]] std::string length_names_text();
[[nodiscard]] Result<LengthName> parse_length_name(std::string_view name);

struct LengthOptions {
  LengthShape shape = LengthShape::kAverage;
  std::int64_t min_tokens = 16;
  std::int64_t max_tokens = 2048;
  std::int64_t num_prompts = 1000;
  // Give every shape the same sum of prompt tokens, num_prompts · (min + max)/2 exactly; the number
  // of requests then differs (Descending has about half as many again). Otherwise the number is
  // exact.
  bool equal_total = true;
  bool long_first = false;    // "descending-arrival": the longest prompt comes first
  double output_sigma = 0.5;  // deviation of the logarithm of output lengths
  std::int64_t max_output = 2048;
};
[[nodiscard]] Result<void> validate(const LengthOptions& options);

// One prompt length. Requires: min <= max.
[[nodiscard]] std::int64_t draw_length(LengthShape shape, std::int64_t min, std::int64_t max,
                                       Rng& rng);

// Mean output length of BurstGPT's conversations at this prompt length: straight lines between
// 260, 155, 170, 260, 350, 450 at 30, 130, 350, 1000, 1500, 2000, level beyond.
[[nodiscard]] double mean_output_tokens(std::int64_t prompt_tokens);

// Prompts without shared prefixes, output lengths log-normal around mean_output_tokens. All arrive
// at 0. Requires: validate(options).ok().
[[nodiscard]] Workload generate_lengths(const LengthOptions& options, Rng& rng);

}  // namespace gimbal::workload
