#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cost/cost_model.h"
#include "cost/hardware_profile.h"
#include "cost/model_shape.h"
#include "cost/step_log.h"

namespace gimbal::cost {

// The smallest value of `function` near `start`, by Nelder and Mead ("A simplex method for function
// minimization", 1965), restarted from its result until that gains nothing. Deterministic.
[[nodiscard]] std::vector<double> minimise(
    const std::function<double(std::span<const double>)>& function, std::vector<double> start);

// What the model predicts of a step's whole_ms without its waits, given the experts that it read.
[[nodiscard]] double predicted_ms(const CostModel& model, const MeasuredStep& step);

// A profile of the machine whose engine ran these steps of `model` on one rank:
//
//   experts    service_ms against rows and distinct experts
//   attention  attention_ms against rows, decodes and their contexts; the head counts like a
//              projection
//   step       whole_ms less the two and the waits: planning, sending outputs, hand-over
//
// Least squares of log(predicted / measured), beyond 20 % counted linearly, so that short steps
// count like long ones and a step that was descheduled hardly does. Means are what is predicted
// from a profile, so each part is then scaled until its predicted sum is the measured one. The
// profile's notes say with what error. `start` gives what steps do not tell (memory, links, moves)
// and names. kInvalidArgument: fewer than 50 steps, none with prefill, or none with decodes.
[[nodiscard]] Result<HardwareProfile> fit_steps(const ModelShape& model,
                                                std::span<const MeasuredStep> steps,
                                                const HardwareProfile& start,
                                                std::string_view origin);

// The same from the logs of all ranks of one group that shares experts. What a gang step takes
// beyond its longest attention and the mean of its ranks' service times is the exchange: latency
// and bandwidth of `same_node` are fitted to it, over 2 messages a layer, and what comes once a
// step is in there too. kInvalidArgument: as above, or fewer than 20 steps that all ranks were part
// of.
[[nodiscard]] Result<HardwareProfile> fit_group_steps(
    const ModelShape& model, std::span<const std::vector<MeasuredStep>> ranks,
    const HardwareProfile& start, std::string_view origin);

}  // namespace gimbal::cost
