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

// The first `count` requests with prompts of their own, which share nothing with those of the run,
// due at once. What is text stays text. Requires: validate(space).ok().
[[nodiscard]] workload::Workload warm_up_requests(const workload::Workload& requests,
                                                  std::int64_t count,
                                                  const workload::TokenSpace& space);

// Sends them. A warm-up that is stopped has not failed.
[[nodiscard]] Result<void> warm_up(const workload::Workload& requests, std::int64_t count,
                                   const loadgen::TargetUrl& url,
                                   const loadgen::LoadOptions& options);

}  // namespace gimbal::apps
