#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gimbal::loadgen {

struct TokenUsage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::optional<std::int64_t> cached_tokens = {};  // absent: the server does not say
};

// What one event of a stream of /v1/completions or /v1/chat/completions says.
struct CompletionChunk {
  bool has_choice = false;
  std::string text;                 // of the first choice: `text`, or `delta.content`
  std::optional<TokenUsage> usage;  // in the last chunk, where it was asked for
  std::string error;                // what the server says went wrong in mid-stream
};

// Error: not such a chunk.
[[nodiscard]] Result<CompletionChunk> parse_completion_chunk(std::string_view data);

// The message of an OpenAI error body, or the body's beginning where it is none.
[[nodiscard]] std::string error_message(std::string_view body);

}  // namespace gimbal::loadgen
