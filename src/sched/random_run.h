#pragma once

#include <functional>
#include <map>

#include "base/random.h"
#include "sched/loop_driver.h"
#include "sched/request.h"
#include "sched/step_loop_options.h"

// Random loads for tests of StepLoop.
namespace gimbal::sched {

inline constexpr int kRandomVocab = 997;
inline constexpr int kRandomModelLen = 48;

// Tiny pools and budgets, so that every rule is met. Order and former stay the defaults.
[[nodiscard]] StepLoopOptions random_options(Rng& rng);
[[nodiscard]] Request random_request(Rng& rng, RequestId id);
// Sends `count` requests at random moments, cancels some, and runs to the end. `on_submit` is
// called before each request is sent, at the driver's time.
std::map<RequestId, Request> run_random(
    LoopDriver& driver, Rng& rng, int count, double cancel_rate,
    const std::function<void(RequestId)>& on_submit = [](RequestId) {});

}  // namespace gimbal::sched
