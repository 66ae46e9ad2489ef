#include "sched/request_check.h"

#include <fmt/format.h>

namespace gimbal::sched {

Result<void> check_request(const Request& request, std::int64_t max_model_len,
                           std::int64_t vocab_size) {
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (prompt == 0)
    return invalid_argument("the prompt must have at least one token, has none", "prompt");
  if (request.max_tokens < 0) {
    return invalid_argument(fmt::format("max_tokens must be at least 0, is {}", request.max_tokens),
                            "max_tokens");
  }
  if (prompt + request.max_tokens > max_model_len) {
    return invalid_argument(
        fmt::format("prompt and max_tokens must be at most {} tokens, are {} + {}", max_model_len,
                    prompt, request.max_tokens),
        "prompt");
  }
  for (const TokenId token : request.prompt) {
    if (token < 0 || token >= vocab_size) {
      return invalid_argument(
          fmt::format("token ids must be from 0 to {}, one is {}", vocab_size - 1, token),
          "prompt");
    }
  }
  return {};
}

}  // namespace gimbal::sched
