#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "server/api_error.h"
#include "server/openai_request.h"
#include "server/serving_context.h"

namespace gimbal::server {

struct PreparedPrompt {
  std::vector<TokenId> tokens;  // at least one
  std::string text;             // where it is echoed
  int max_tokens = 0;           // of each completion; tokens + max_tokens fit the model
};

struct PreparedRequest {
  GenerationRequest request;
  std::vector<PreparedPrompt> prompts;
};

// Parses a body and turns its prompts into tokens. May take long where the body is large.
// Thread-safe.
[[nodiscard]] std::variant<PreparedRequest, ApiError> prepare_request(
    Endpoint endpoint, std::string_view body, const ServingContext& context);

// The tokens of a text; an error where its size alone says that they cannot fit the model.
[[nodiscard]] std::variant<std::vector<TokenId>, ApiError> tokens_of(std::string_view text,
                                                                     bool add_special_tokens,
                                                                     const ServingContext& context,
                                                                     std::string_view field);

// The text of tokens.
[[nodiscard]] std::string text_of(std::span<const TokenId> tokens, bool skip_special_tokens,
                                  const TextCodec& codec);

}  // namespace gimbal::server
