#include "cluster/dispatcher_options.h"

#include <fmt/format.h>

namespace gimbal::cluster {
namespace {

constexpr Duration kLongestExclusion = std::chrono::hours(1);

}  // namespace

Result<void> check_options(const DispatcherOptions& options) {
  if (options.engines < 1) {
    return invalid_argument(fmt::format("engines must be at least 1, are {}", options.engines),
                            "engines");
  }
  if (!(options.late_steps >= 0)) {
    return invalid_argument(fmt::format("late_steps must be at least 0, is {}", options.late_steps),
                            "late_steps");
  }
  if (!options.groups.empty() &&
      options.groups.size() != static_cast<std::size_t>(options.engines)) {
    return invalid_argument(fmt::format("groups must be one an engine, are {} for {}",
                                        options.groups.size(), options.engines),
                            "groups");
  }
  if (options.page_tokens < 1) {
    return invalid_argument(
        fmt::format("page_tokens must be at least 1, is {}", options.page_tokens), "page_tokens");
  }
  const EngineWatchOptions& watch = options.watch;
  if (options.users.most_users < 1) {
    return invalid_argument("most_users must be at least 1, is 0", "most_users");
  }
  if (watch.first_exclusion < Duration::zero() || watch.longest_exclusion < Duration::zero() ||
      watch.longest_exclusion > kLongestExclusion) {
    return invalid_argument("exclusions must be from 0 to an hour", "longest_exclusion");
  }
  return {};
}

void match_scheduler(DispatcherOptions& options, const sched::StepLoopOptions& scheduler) {
  options.page_tokens = scheduler.page_tokens;
  options.prefix_caching = scheduler.prefix_caching;
  options.model_salt = scheduler.model_salt;
  options.order = scheduler.order;
  options.order_options = scheduler.order_options;
  options.prefill_cost = scheduler.prefill_cost;
}

}  // namespace gimbal::cluster
