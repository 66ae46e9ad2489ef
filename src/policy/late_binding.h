#pragma once

#include <cstdint>
#include <span>

#include "policy/dispatch.h"

namespace gimbal::policy {

// Why a request that is bound late waits.
enum class LateHold : std::uint8_t {
  kNone,   // it does not
  kWork,   // every engine has too much to run before it
  kPages,  // one that has not lacks pages
};

// Leaves room only on engines that would start the request soon: with at most `late_steps` full
// steps of prefill of its class ahead (prompts that run count for both classes), and pages for its
// first choice now. Where there are none, and engines have work that ends, it says why and leaves
// the views as they are. A request that must go to an engine that is gone does not wait: it fails
// there. Pure.
[[nodiscard]] LateHold limit_to_soon(const DispatchRequest& request, double late_steps,
                                     std::span<EngineView> engines);
// As a decision. Requires: it waits.
[[nodiscard]] DispatchReason reason_of(LateHold hold);

}  // namespace gimbal::policy
