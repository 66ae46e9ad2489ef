#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace gimbal::workload {

// What a request asks of the scheduler: kNone where a workload has no classes.
enum class TrafficClass : std::uint8_t { kNone, kLatencySensitive, kBestEffort };
// "", "LS", "BE".
[[nodiscard]] std::string_view to_string(TrafficClass traffic_class);
[[nodiscard]] Result<TrafficClass> parse_traffic_class(std::string_view name);

// Of a part that no topic owns: its tokens come from the whole vocabulary.
inline constexpr int kAnyTopic = -1;

// What options may ask for at most, in tokens.
inline constexpr std::int64_t kMostTokens = 10'000'000;

// A run of prompt tokens, by name instead of by value. The same identity and topic stand for the
// same endless sequence of tokens, of which the part is the first `tokens`; so prompts with equal
// leading parts share a prefix, and nothing has to store or compare the tokens themselves.
struct PromptPart {
  std::uint64_t identity = 0;
  std::int64_t tokens = 0;  // at least 1
  int topic = kAnyTopic;

  bool operator==(const PromptPart&) const = default;
};

// One request of a workload. Value type.
struct RequestSpec {
  Duration arrival{};                   // from the workload's start
  std::vector<PromptPart> prompt = {};  // at least one part
  std::string text = {};  // the prompt itself where the trace has it; the parts then say its length
  std::int64_t output_tokens = 1;
  std::string user = {};  // empty: unknown
  TrafficClass traffic_class = TrafficClass::kNone;
  std::optional<int> source = {};  // the engine that has to take it (`--pin-users`)

  [[nodiscard]] std::int64_t prompt_tokens() const;
  bool operator==(const RequestSpec&) const = default;
};

// Requests in order of arrival, and what is known of where they come from. Value type.
struct Workload {
  std::string name;                // for people: the trace's file or the generator's options
  bool has_arrivals = false;       // false: all arrive at 0 until arrivals are drawn
  bool has_prefixes = false;       // prompts share parts; otherwise each part is of one prompt
  bool estimated_lengths = false;  // lengths were guessed from bytes of text
  std::int64_t skipped_rows = 0;   // requests of the trace that had no tokens: failures
  std::vector<RequestSpec> requests = {};
};

}  // namespace gimbal::workload
