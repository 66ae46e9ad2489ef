#include "apps/parallel_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "apps/number_range.h"
#include "base/log.h"
#include "policy/preset.h"

namespace gimbal::apps {
namespace {

constexpr std::array kOfSeveralEngines{"--dispatch",        "--binding",
                                       "--dispatch-lambda", "--dispatch-omega",
                                       "--dispatch-tie-ms", "--dispatch-tie-fraction",
                                       "--running-load",    "--dispatch-constants",
                                       "--feedback",        "--rank-workers",
                                       "--dead-after"};
constexpr std::array kOfSharedExperts{
    "--expert-pace",      "--gang-patience",     "--gang-planner",        "--gang-hold-steps",
    "--expert-queues",    "--expert-quantum-ms", "--expert-max-defer",    "--expert-map",
    "--exchange-profile", "--max-stage-ms",      "--dispatch-exchange-ms"};

// Options that were given, and that so few engines make nothing of.
std::vector<std::string> without_effect(const CLI::App& command, const ExpertFlags& experts) {
  std::vector<std::string> names;
  const auto add_given = [&](const auto& options) {
    for (const char* const name : options) {
      if (command.get_option(name)->count() > 0) names.emplace_back(name);
    }
  };
  const bool one = experts.data_parallel_size == 1;
  if (one) add_given(kOfSeveralEngines);
  if (one || experts.expert_parallel_size == 1) add_given(kOfSharedExperts);
  return names;
}

}  // namespace

void ParallelFlags::add_to(CLI::App& command) {
  experts.add_to(command);
  command.add_option("--preset", preset,
                     fmt::format("a system to serve as: {}; single options override it",
                                 fmt::join(policy::preset_names(), ", ")));
  dispatch.add_to(command);
  command.add_option("--trace-out", trace_path,
                     "write what ran when to this file, as a trace that Perfetto opens");
  command
      .add_option("--trace-max-events", trace_events,
                  "events of the trace; later ones are left out and counted")
      ->check(above_zero())
      ->capture_default_str();
  command.add_option("--record-routing", routing_path,
                     "write the experts that the router chose for every row to this file");
}

Result<void> ParallelFlags::check_engines(const CLI::App& command) const {
  if (engines() == 1 && experts.expert_parallel_size > 1) {
    return invalid_argument(
        fmt::format("--expert-parallel-size must be 0 or 1 with one engine (--data-parallel-size), "
                    "is {}",
                    experts.expert_parallel_size),
        "expert-parallel-size");
  }
  if (const auto names = without_effect(command, experts); !names.empty()) {
    log_warning("with {} this takes no effect: {}",
                engines() == 1 ? "one engine (--data-parallel-size)"
                               : "experts of each engine's own (--expert-parallel-size 1)",
                fmt::join(names, ", "));
  }
  return {};
}

Result<void> ParallelFlags::apply_preset(const CLI::App& command, SchedulerFlags& scheduler) {
  if (preset.empty()) {  // the defaults are gimbal's
    GIMBAL_ASSIGN_OR_RETURN(const policy::Preset defaults, policy::find_preset("gimbal"));
    if (const std::string gaps = policy::preset_gaps(defaults); !gaps.empty()) log_info("{}", gaps);
    return {};
  }
  GIMBAL_ASSIGN_OR_RETURN(const policy::Preset chosen, policy::find_preset(preset));
  scheduler.apply(chosen, command);
  experts.apply(chosen, command);
  dispatch.apply(chosen, command);
  if (const std::string gaps = policy::preset_gaps(chosen); !gaps.empty()) log_warning("{}", gaps);
  return {};
}

void ParallelFlags::warn_of_unused(const CLI::App& command, const SchedulerFlags& scheduler) const {
  struct Use {
    const char* flag;
    const char* column;
    std::string_view value;
    std::vector<std::string_view> of;  // the values that make something of the flag
  };
  const std::string& rule = dispatch.dispatch;
  const std::string& order = scheduler.options.order;
  const std::string& former = scheduler.options.former;
  std::vector<Use> uses{
      {"--aging", "--order", order, {"sjf-aging"}},
      {"--promote-after", "--order", order, {"sjf-priority-aging"}},
      {"--ms-per-priority-level", "--order", order, {"sjf-aging", "sjf-priority-aging"}},
      {"--drain-steps", "--batch-former", former, {"gimbal"}},
      {"--prefill-floor", "--batch-former", former, {"gimbal"}},
      {"--target-itl-ms", "--batch-former", former, {"gimbal"}}};
  if (engines() > 1) {
    uses.insert(uses.end(), {{"--dispatch-lambda", "--dispatch", rule, {"gimbal"}},
                             {"--dispatch-omega", "--dispatch", rule, {"gimbal"}},
                             {"--dispatch-tie-ms", "--dispatch", rule, {"gimbal"}},
                             {"--dispatch-tie-fraction", "--dispatch", rule, {"gimbal"}},
                             {"--dispatch-exchange-ms", "--dispatch", rule, {"gimbal"}},
                             {"--running-load", "--dispatch", rule, {"gimbal-v1"}},
                             {"--feedback", "--dispatch", rule, {"gimbal", "gimbal-v2"}}});
  }
  if (engines() > 1 && experts.expert_parallel_size != 1) {
    uses.insert(uses.end(),
                {{"--gang-patience", "--expert-pace", experts.expert_pace, {"gang"}},
                 {"--gang-planner", "--expert-pace", experts.expert_pace, {"gang"}},
                 {"--gang-planner", "--batch-former", former, {"gimbal"}},
                 {"--gang-hold-steps", "--expert-pace", experts.expert_pace, {"gang"}},
                 {"--max-stage-ms", "--expert-pace", experts.expert_pace, {"gang"}},
                 {"--expert-quantum-ms", "--expert-queues", experts.expert_queues, {"ls-first"}},
                 {"--expert-max-defer", "--expert-queues", experts.expert_queues, {"ls-first"}}});
  }
  for (const Use& use : uses) {
    if (command.get_option(use.flag)->count() == 0) continue;
    if (std::find(use.of.begin(), use.of.end(), use.value) != use.of.end()) continue;
    log_warning("{} takes no effect: {} is {}", use.flag, use.column, use.value);
  }
}

Result<void> ParallelFlags::complete(const engine::ServingEngineOptions& engine) {
  return dispatch.complete(engine.scheduler.max_num_batched_tokens);
}

}  // namespace gimbal::apps
