#pragma once

#include <memory>

#include "policy/dispatch.h"

// The rules behind the table of make_dispatch, one maker each; policy/dispatch.h says what they do.
namespace gimbal::policy {

using DispatchMaker = std::unique_ptr<Dispatch>(const DispatchOptions& options);

DispatchMaker make_gimbal_dispatch;
DispatchMaker make_gimbal_v2_dispatch;
DispatchMaker make_gimbal_v1_dispatch;
DispatchMaker make_vllm_dispatch;
DispatchMaker make_round_robin_dispatch;
DispatchMaker make_least_requests_dispatch;
DispatchMaker make_least_prefill_dispatch;
DispatchMaker make_lmetric_dispatch;
DispatchMaker make_cache_aware_dispatch;
DispatchMaker make_random_dispatch;
DispatchMaker make_power_of_two_dispatch;

}  // namespace gimbal::policy
