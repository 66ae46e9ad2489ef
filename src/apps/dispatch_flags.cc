#include "apps/dispatch_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "apps/number_range.h"
#include "policy/dispatch.h"

namespace gimbal::apps {
namespace {

bool given(const CLI::App& command, const char* name) {
  return command.get_option(name)->count() > 0;
}

}  // namespace

void DispatchFlags::add_to(CLI::App& command) {
  policy::DispatchOptions& rule = options.rule_options;
  command
      .add_option(
          "--dispatch", dispatch,
          fmt::format("which engine gets a request: {}", fmt::join(policy::dispatch_names(), ", ")))
      ->capture_default_str();
  command
      .add_option("--binding", binding,
                  "early: a request gets its engine when it arrives; late: when one can start it")
      ->check(CLI::IsMember({"early", "late"}))
      ->capture_default_str();
  command
      .add_option("--dispatch-lambda", rule.lambda,
                  "weight of the time between tokens (gimbal dispatch)")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--dispatch-omega", rule.omega,
                  "weight of other requests' delay (gimbal dispatch)")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--dispatch-tie-ms", rule.tie_ms,
                  "milliseconds within which engines are equally good (gimbal dispatch)")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--dispatch-tie-fraction", rule.tie_fraction,
                  "the same as a fraction of the best score; the greater of both holds")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option(
          "--dispatch-exchange-ms", exchange_ms,
          "what moving a token's expert rows to other engines and back costs, in ms "
          "(gimbal dispatch); by default what the profile of exchanges, or of the simulated "
          "machines, makes of it")
      ->check(at_least_zero());
  command
      .add_option("--running-load", running_load,
                  "what gimbal-v1 balances: uncomputed prompt tokens, or tokens of context held")
      ->check(CLI::IsMember({"uncomputed", "context"}))
      ->capture_default_str();
  command.add_flag("--feedback,!--no-feedback", feedback,
                   "dispatch sees the pressure on experts (default)");
  command.add_option(
      "--decisions", decisions_path,
      "write every dispatch decision to this file (serve: and every ordering decision), one "
      "JSON document a line");
}

void DispatchFlags::apply(const policy::Preset& preset, const CLI::App& command) {
  if (!given(command, "--dispatch")) dispatch = preset.dispatch;
  if (!given(command, "--binding")) binding = preset.binding;
  if (!given(command, "--feedback")) feedback = preset.feedback;
}

Result<void> DispatchFlags::complete(int batched_tokens) {
  options.rule = dispatch;
  options.late = binding == "late";
  options.feedback = feedback;
  options.rule_options.batch_tokens = batched_tokens;
  options.rule_options.running_load =
      running_load == "context" ? policy::RunningLoad::kContext : policy::RunningLoad::kUncomputed;
  GIMBAL_RETURN_IF_ERROR(policy::make_dispatch(options.rule, options.rule_options));
  return {};
}

}  // namespace gimbal::apps
