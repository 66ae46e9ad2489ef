#include "sched/request_group.h"

#include <algorithm>

namespace gimbal::sched {

int shared_prefix_tokens(std::span<const TokenId> ahead, std::span<const TokenId> tokens,
                         int page_tokens) {
  const auto differ = std::mismatch(ahead.begin(), ahead.end(), tokens.begin(), tokens.end());
  const auto equal = static_cast<int>(differ.second - tokens.begin());
  const int most = std::max(0, static_cast<int>(tokens.size()) - 1);
  return std::min(equal, most) / page_tokens * page_tokens;
}

bool may_hit_prefix(const Request& request, const StepLoopOptions& options) {
  return options.prefix_caching && !request.sampling.prompt_logprobs;
}

std::int64_t group_prefill_tokens(std::span<const Request> group, const StepLoopOptions& options) {
  std::int64_t sum = 0;
  const Request* ahead = nullptr;
  for (const Request& request : group) {
    sum += static_cast<std::int64_t>(request.prompt.size());
    if (ahead != nullptr && ahead->cache_salt == request.cache_salt &&
        may_hit_prefix(request, options)) {
      sum -= shared_prefix_tokens(ahead->prompt, request.prompt, options.page_tokens);
    }
    ahead = &request;
  }
  return sum;
}

}  // namespace gimbal::sched
