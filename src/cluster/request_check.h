#pragma once

#include "base/result.h"
#include "cluster/engine.h"
#include "sched/request.h"

namespace gimbal::cluster {

// What Engine::submit() says of a request's own fields: kInvalidArgument names the one at fault.
[[nodiscard]] Result<void> check_request(const sched::Request& request, const EngineLimits& limits);

}  // namespace gimbal::cluster
