#include "apps/load_run.h"

#include <sys/resource.h>

#include <algorithm>

namespace gimbal::apps {

int topics_of(const WorkloadFlags& flags, const workload::Workload& requests) {
  int topics = std::max(1, flags.topics);
  for (const auto& request : requests.requests) {
    for (const auto& part : request.prompt)
      topics = std::max(topics, part.topic + 1);
  }
  return topics;
}

void allow_many_connections() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<void> warm_up(const workload::Workload& requests, std::int64_t count,
                     const loadgen::TargetUrl& url, const loadgen::LoadOptions& options) {
  workload::Workload warm;
  const auto most = std::min(requests.requests.size(), static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < most; ++i) {
    warm.requests.push_back(requests.requests[i]);
    warm.requests.back().arrival = Duration{};
    for (auto& part : warm.requests.back().prompt)
      part.identity = ~part.identity;
  }
  GIMBAL_ASSIGN_OR_RETURN(const loadgen::LoadResult result, loadgen::run_load(warm, url, options));
  for (const report::RequestRecord& record : result.records) {
    if (record.completed()) continue;
    return Error{ErrorCode::kUnavailable, "a warm-up request failed: " + record.error};
  }
  return {};
}

}  // namespace gimbal::apps
