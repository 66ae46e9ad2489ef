#include "apps/scheduler_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <limits>

#include "apps/number_range.h"
#include "policy/batch_former.h"
#include "policy/request_order.h"

namespace gimbal::apps {
namespace {

constexpr double kMostSeconds = 1e6;

bool given(const CLI::App& command, const char* name) {
  return command.get_option(name)->count() > 0;
}

}  // namespace

void SchedulerFlags::add_to(CLI::App& command, const std::string& kv_memory) {
  command
      .add_option("--kv-cache-memory-bytes", kv_cache_bytes,
                  "memory for keys and values" + kv_memory)
      ->check(at_least_zero())
      ->capture_default_str();
  command.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", options.prefix_caching,
                   "keep and share the KV of common prefixes (default)");
  command.add_option(
      "--record", record_path,
      "write the scheduler's events and decisions to this file; of several engines to "
      "FILE.engine0 and so on, of their dispatcher to FILE.dispatch, and, of a model that is "
      "served, of groups that share experts to FILE.gang0 and so on");
  add_rules(command);
}

void SchedulerFlags::add_rules(CLI::App& command) {
  command.add_option("--max-num-seqs", options.max_num_seqs, "sequences that run at once")
      ->check(above_zero())
      ->capture_default_str();
  command
      .add_option("--max-num-batched-tokens", options.max_num_batched_tokens,
                  "rows of one step, prompt chunks and decodes together")
      ->check(above_zero())
      ->capture_default_str();
  command.add_option("--order", options.order, "fcfs, sjf, sjf-priority-aging or sjf-aging")
      ->capture_default_str();
  command
      .add_option("--aging", aging,
                  "milliseconds of prefill that a millisecond of waiting outweighs (sjf-aging); "
                  "auto: moved so that the p99 of waiting stays at that of fcfs")
      ->check(above_zero() | CLI::IsMember({"auto"}))
      ->capture_default_str();
  command
      .add_option(
          "--promote-after", promote_after,
          "seconds of waiting after which a request comes first (sjf-priority-aging); auto: "
          "twice the median wait")
      ->check(at_least_zero() | CLI::IsMember({"auto"}))
      ->capture_default_str();
  command
      .add_option("--ms-per-priority-level", options.order_options.ms_per_priority_level,
                  "milliseconds of prefill that a level of a request's priority outweighs "
                  "(sjf-aging, sjf-priority-aging)")
      ->check(at_least_zero())
      ->capture_default_str();
  command.add_option("--batch-former", options.former, "gimbal, vllm, tgi or qllm")
      ->capture_default_str();
  command
      .add_option("--drain-steps", options.former_options.drain_steps,
                  "steps over which the gimbal former spreads the prefill backlog")
      ->check(above_zero())
      ->capture_default_str();
  command
      .add_option("--prefill-floor", prefill_floor,
                  "prompt rows that always run beside decodes (gimbal former); auto: what hides in "
                  "the time of the decodes")
      ->check(number_range(1, std::numeric_limits<int>::max()) | CLI::IsMember({"auto"}))
      ->capture_default_str();
  command
      .add_option(
          "--target-itl-ms", options.former_options.target_itl_ms,
          "milliseconds that a step with decodes should take at most (gimbal former); 0: no "
          "target")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--max-stage-ms", options.max_stage_ms,
                  "milliseconds that a stage of a layer should take at most, of engines that share "
                  "experts; 0: a quarter of the predicted step of 512 prompt tokens")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--max-waiting-prefill-tokens", max_waiting_prefill_tokens,
                  "prompt tokens that may wait before requests get a 429; 0: what 60 s of measured "
                  "prefill clear, at least 65536")
      ->check(at_least_zero())
      ->capture_default_str();
}

void SchedulerFlags::apply(const policy::Preset& preset, const CLI::App& command) {
  if (!given(command, "--order")) options.order = preset.order;
  if (!given(command, "--batch-former")) options.former = preset.former;
  if (preset.promote_after_s && !given(command, "--promote-after"))
    promote_after = fmt::format("{}", *preset.promote_after_s);
  if (preset.batch_tokens && !given(command, "--max-num-batched-tokens"))
    options.max_num_batched_tokens = *preset.batch_tokens;
  if (preset.max_sequences && !given(command, "--max-num-seqs"))
    options.max_num_seqs = *preset.max_sequences;
}

Result<void> SchedulerFlags::complete() {
  options.order_options.aging_auto = aging == "auto";
  if (aging != "auto") {
    CLI::detail::lexical_cast(aging, options.order_options.aging);
  }
  options.order_options.promote_after_auto = promote_after == "auto";
  if (promote_after != "auto") {
    double seconds = 0;
    CLI::detail::lexical_cast(promote_after, seconds);
    if (!(seconds <= kMostSeconds)) {
      return invalid_argument(fmt::format("--promote-after must be at most {} seconds, is {}",
                                          kMostSeconds, promote_after),
                              "promote-after");
    }
    options.order_options.promote_after = from_ms(seconds * 1000.0);
  }
  if (prefill_floor != "auto") {
    CLI::detail::lexical_cast(prefill_floor, options.former_options.prefill_floor.emplace());
  }
  if (max_waiting_prefill_tokens > 0) {
    options.max_waiting_prefill_tokens = max_waiting_prefill_tokens;
  }
  GIMBAL_RETURN_IF_ERROR(policy::make_request_order(options.order, options.order_options));
  GIMBAL_RETURN_IF_ERROR(policy::make_batch_former(options.former, options.former_options));
  return {};
}

}  // namespace gimbal::apps
