#include "apps/dispatch_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <limits>
#include <utility>

#include "apps/number_range.h"
#include "base/json.h"
#include "policy/dispatch.h"

namespace gimbal::apps {
namespace {

constexpr double kMostConstant = 1e12;
constexpr double kMostSessionSeconds = 1e6;

bool given(const CLI::App& command, const char* name) {
  return command.get_option(name)->count() > 0;
}

// The constants of rules and of late binding that have no flag of their own.
Result<void> read_constants(const Json& json, cluster::DispatcherOptions& options) {
  policy::DispatchOptions& rule = options.rule_options;
  double session_s = to_ms(options.users.session) / 1000.0;
  const std::pair<const char*, double*> numbers[] = {
      {"kv_limit", &rule.kv_limit},
      {"first_output_tokens", &rule.first_output_tokens},
      {"weight_running", &rule.weight_running},
      {"weight_waiting", &rule.weight_waiting},
      {"weight_kv", &rule.weight_kv},
      {"weight_experts", &rule.weight_experts},
      {"kv_spread", &rule.kv_spread},
      {"load_spread", &rule.load_spread},
      {"cache_threshold", &rule.cache_threshold},
      {"balance_absolute", &rule.balance_absolute},
      {"balance_relative", &rule.balance_relative},
      {"late_steps", &options.late_steps}};
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(json));
  for (const auto& [name, value] : numbers)
    GIMBAL_RETURN_IF_ERROR(object.read(name, 0.0, kMostConstant, *value));
  GIMBAL_RETURN_IF_ERROR(
      object.read("return_probability", 0.0, 1.0, options.users.return_probability));
  GIMBAL_RETURN_IF_ERROR(object.read("session_s", 1e-3, kMostSessionSeconds, session_s));
  GIMBAL_RETURN_IF_ERROR(
      object.read("shortlist", 1, std::numeric_limits<int>::max(), rule.shortlist));
  if (const auto unread = object.unread(); !unread.empty()) {
    return invalid_argument(fmt::format("{} is not a constant of dispatch", unread.front()),
                            unread.front());
  }
  options.users.session = from_ms(session_s * 1000.0);
  return policy::check_dispatch_options(rule);
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
  command.add_option("--dispatch-constants", constants_path,
                     "JSON file with constants of dispatch rules and late binding that have no "
                     "option of their own, as {\"weight_kv\": 2}");
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
  if (!constants_path.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(const Json json, read_json_file(constants_path));
    const auto read = read_constants(json, options);
    if (!read.ok()) return read.error().within("--dispatch-constants " + constants_path);
  }
  options.rule_options.batch_tokens = batched_tokens;
  options.rule_options.running_load =
      running_load == "context" ? policy::RunningLoad::kContext : policy::RunningLoad::kUncomputed;
  GIMBAL_RETURN_IF_ERROR(policy::make_dispatch(options.rule, options.rule_options));
  return {};
}

}  // namespace gimbal::apps
