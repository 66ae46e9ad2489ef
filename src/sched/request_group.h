#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "sched/request.h"
#include "sched/step_loop_options.h"

namespace gimbal::sched {

// What a sequence will find in the prefix cache once the one ahead of it has been computed, as far
// as the two tell: whole pages, and fewer tokens than it has.
// Requires: equal salts, page_tokens >= 1.
[[nodiscard]] int shared_prefix_tokens(std::span<const TokenId> ahead,
                                       std::span<const TokenId> tokens, int page_tokens);

// Whether prefix caching lets a request find anything: not one whose prompt is to be scored.
[[nodiscard]] bool may_hit_prefix(const Request& request, const StepLoopOptions& options);

// The prompt tokens that a group brings to the queue, before hits on what is cached already. What a
// request shares with the one before it in the group is counted once: all but those admitted in the
// same step as the first find it cached, so the count is short by less than one step's rows.
[[nodiscard]] std::int64_t group_prefill_tokens(std::span<const Request> group,
                                                const StepLoopOptions& options);

}  // namespace gimbal::sched
