#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"

namespace gimbal::report {

// What a client saw of one request: the load generator measures it, the simulator computes it.
// Value type. Times of day count from the run's start.
struct RequestRecord {
  Duration scheduled{};             // when it was due
  Duration sent{};                  // when it was sent; a limit on concurrency may hold it back
  Duration ttft{};                  // sent → first chunk with a choice
  Duration ttft_content{};          // sent → first chunk with text; 0: there was none
  Duration e2e{};                   // sent → last chunk with a choice
  std::vector<Duration> gaps = {};  // between chunks with a choice: the inter-token latencies
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt, found in a prefix cache
  bool tells_cached = false;       // the answer said so; without, none counts as cached
  bool without_usage = false;      // the answer did not say its tokens: its chunks are counted
  std::string traffic_class = {};  // "LS" or "BE"; empty: the workload has no classes
  std::string user = {};           // empty: the workload has no users
  std::string text = {};           // what was generated, where it is kept
  std::string error = {};          // empty: completed

  [[nodiscard]] bool completed() const { return error.empty(); }
  // (E2E − TTFT)/(output tokens − 1), in milliseconds; 0 below two tokens, as vLLM counts it.
  [[nodiscard]] double tpot_ms() const {
    return output_tokens < 2 ? 0.0 : to_ms(e2e - ttft) / static_cast<double>(output_tokens - 1);
  }
};

}  // namespace gimbal::report
