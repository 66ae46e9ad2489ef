#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"

namespace gimbal::sched {

// Latency-sensitive before best-effort, at every level (QLLM §3).
enum class RequestClass : std::uint8_t { kLatencySensitive, kBestEffort };

// How tokens are chosen from logits. Defaults leave the distribution as it is.
struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  float top_p = 1.0F;        // (0, 1]
  int top_k = 0;             // 0: all
  float min_p = 0.0F;        // [0, 1]
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  float repetition_penalty = 1.0F;  // > 0
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::uint64_t seed = 0;  // with `choice`, the key of the counter-based generator
  std::uint32_t choice = 0;
  int logprobs = -1;  // top tokens to report beside the chosen one; -1: none at all
  bool prompt_logprobs =
      false;           // report the prompt's tokens too; its cached prefix is computed again
  int min_tokens = 0;  // no end-of-sequence or stop id before this many tokens
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;  // beside the model's own end-of-sequence ids
};

// One sequence to generate: one choice of one API request. Immutable once submitted.
struct Request {
  RequestId id;
  std::vector<TokenId> prompt;  // at least one token, all in the vocabulary
  int max_tokens = 1;           // >= 0; 0 only with prompt_logprobs
  SamplingParams sampling;
  RequestClass request_class = RequestClass::kLatencySensitive;
  int priority = 0;                     // lower runs earlier, inside the class
  std::uint64_t cache_salt = 0;         // prefix pages are shared only between equal salts
  std::uint64_t user_key = 0;           // stickiness and statistics; 0: unknown
  int pinned_engine = -1;               // of several, the one that has to take it; -1: any may
  std::uint64_t dispatch_sequence = 0;  // rises with every dispatch of one dispatcher; 0: none
  // When it came, of one that waited for an engine (late binding); nullopt: when it is submitted.
  std::optional<TimePoint> arrival = {};
};

enum class FinishReason : std::uint8_t { kStop, kLength, kCancelled, kFailed };

// The probability given to one token, and to its strongest rivals, before any sampling filter.
struct TokenLogprobs {
  TokenId token = 0;
  float logprob = 0.0F;                        // natural logarithm
  int rank = 1;                                // 1: the most probable token
  std::vector<std::pair<TokenId, float>> top;  // descending, at most SamplingParams::logprobs
};

}  // namespace gimbal::sched
