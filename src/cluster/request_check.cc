#include "cluster/request_check.h"

#include <fmt/format.h>

namespace gimbal::cluster {

Result<void> check_request(const sched::Request& request, const EngineLimits& limits) {
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (prompt == 0)
    return invalid_argument("the prompt must have at least one token, has none", "prompt");
  if (prompt + request.max_tokens > limits.max_model_len) {
    return invalid_argument(
        fmt::format("prompt and max_tokens must be at most {} tokens, are {} + {}",
                    limits.max_model_len, prompt, request.max_tokens),
        "prompt");
  }
  for (const TokenId token : request.prompt) {
    if (token < 0 || token >= limits.vocab_size) {
      return invalid_argument(
          fmt::format("token ids must be from 0 to {}, one is {}", limits.vocab_size - 1, token),
          "prompt");
    }
  }
  return {};
}

}  // namespace gimbal::cluster
