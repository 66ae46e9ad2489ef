#pragma once

#include <cstdint>

#include "apps/workload_flags.h"
#include "base/result.h"
#include "loadgen/load_generator.h"

namespace gimbal::apps {

// As many topics as the flags ask for, or as the requests have.
[[nodiscard]] int topics_of(const WorkloadFlags& flags, const workload::Workload& requests);

// Lets this process have as many connections as the system allows.
void allow_many_connections();

// Sends requests of the lengths that come first, but with prompts of their own, all at once.
[[nodiscard]] Result<void> warm_up(const workload::Workload& requests, std::int64_t count,
                                   const loadgen::TargetUrl& url,
                                   const loadgen::LoadOptions& options);

}  // namespace gimbal::apps
