#include "apps/load_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

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

workload::Workload warm_up_requests(const workload::Workload& requests, std::int64_t count,
                                    const workload::TokenSpace& space) {
  workload::Workload warm;
  const auto most = std::min(requests.requests.size(), static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < most; ++i) {
    workload::RequestSpec request = requests.requests[i];
    request.arrival = Duration{};
    for (auto& part : request.prompt)
      part.identity = ~part.identity;
    const bool as_text = !std::exchange(request.text, {}).empty();
    if (as_text) request.text = prompt_text(request, space);
    warm.requests.push_back(std::move(request));
  }
  return warm;
}

Result<void> warm_up(const workload::Workload& requests, std::int64_t count,
                     const loadgen::TargetUrl& url, const loadgen::LoadOptions& options) {
  const workload::Workload warm = warm_up_requests(requests, count, options.request.tokens);
  GIMBAL_ASSIGN_OR_RETURN(const loadgen::LoadResult result, loadgen::run_load(warm, url, options));
  for (const report::RequestRecord& record : result.records) {
    if (record.completed()) continue;
    return Error{ErrorCode::kUnavailable, "a warm-up request failed: " + record.error};
  }
  return {};
}

}  // namespace gimbal::apps
