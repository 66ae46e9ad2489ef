#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "base/result.h"
#include "cost/step_log.h"
#include "engine/serving_engine_options.h"

namespace gimbal::apps {

struct CalibrationOptions {
  int longest_prompt = 1024;  // tokens; at most what the model's context leaves
  int most_decodes = 32;      // at once
  int rounds = 2;             // of the whole mix
  std::uint64_t seed = 1;     // of tokens and lengths
};

// Runs a short mix on one engine with its scheduler and thread, without a server, and returns its
// step log: prompts of many lengths alone, batches of decodes of many sizes, and prompts that
// arrive while others decode. `engine` says how the engine schedules.
[[nodiscard]] Result<std::vector<cost::MeasuredStep>> run_calibration(
    const LoadedModel& loaded, const engine::ServingEngineOptions& engine,
    const CalibrationOptions& options);

}  // namespace gimbal::apps
