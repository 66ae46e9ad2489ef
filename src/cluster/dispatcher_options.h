#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cluster/engine_watch.h"
#include "cluster/sticky_users.h"
#include "policy/dispatch.h"
#include "policy/prefill_cost.h"
#include "policy/request_order.h"
#include "sched/step_loop_options.h"

namespace gimbal::cluster {

struct DispatcherOptions {
  int engines = 1;              // >= 1
  std::string rule = "gimbal";  // see policy::make_dispatch
  policy::DispatchOptions rule_options;
  bool late = false;      // binding: see Dispatcher
  double late_steps = 2;  // prefill ahead of a request that is bound late, in full steps; >= 0
  bool feedback = true;   // the rule sees expert pressure
  std::string order = "sjf-aging";  // of the queue that late binding keeps
  policy::RequestOrderOptions order_options;
  policy::PrefillCost prefill_cost;  // job sizes there, until one is fitted
  // Engines of one model on like devices: what one has learned of step times holds for all. Else
  // one whose fit was led astray by few steps would be avoided, and never learn.
  bool engines_alike = false;
  std::vector<int> groups;  // by engine, side by side: those that share experts; empty: none
  // As the engines have them, for the prefix mirror.
  int page_tokens = 16;
  bool prefix_caching = true;
  std::uint64_t model_salt = 0;
  EngineWatchOptions watch;
  StickyUsersOptions users;
  std::size_t log_records = 1024;  // decisions kept in memory; fewer of more than 64 engines
  std::uint64_t seed = 0;
};

// kInvalidArgument, with the option's name as field, when one is out of range. Names of rules and
// orders and their own options are checked where they are made.
[[nodiscard]] Result<void> check_options(const DispatcherOptions& options);

// Takes over what the dispatcher has in common with the schedulers of its engines: pages, salt,
// order and job sizes.
void match_scheduler(DispatcherOptions& options, const sched::StepLoopOptions& scheduler);

}  // namespace gimbal::cluster
