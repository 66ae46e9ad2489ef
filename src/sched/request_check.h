#pragma once

#include <cstdint>

#include "base/result.h"
#include "sched/request.h"

namespace gimbal::sched {

// What an engine says of a request's own fields: kInvalidArgument names the one at fault.
// `max_model_len`: prompt and output tokens of one request.
[[nodiscard]] Result<void> check_request(const Request& request, std::int64_t max_model_len,
                                         std::int64_t vocab_size);

}  // namespace gimbal::sched
