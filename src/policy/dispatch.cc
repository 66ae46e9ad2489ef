#include "policy/dispatch.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>

#include "policy/dispatch_rules.h"

namespace gimbal::policy {
namespace {

struct NamedRule {
  std::string_view name;
  DispatchMaker* make;
};

constexpr std::array kRules{
    NamedRule{"gimbal", make_gimbal_dispatch},
    NamedRule{"gimbal-v2", make_gimbal_v2_dispatch},
    NamedRule{"gimbal-v1", make_gimbal_v1_dispatch},
    NamedRule{"vllm", make_vllm_dispatch},
    NamedRule{"round-robin", make_round_robin_dispatch},
    NamedRule{"least-requests", make_least_requests_dispatch},
    NamedRule{"least-prefill", make_least_prefill_dispatch},
    NamedRule{"lmetric", make_lmetric_dispatch},
    NamedRule{"cache-aware", make_cache_aware_dispatch},
    NamedRule{"random", make_random_dispatch},
    NamedRule{"power-of-two", make_power_of_two_dispatch},
};

constexpr std::array<std::string_view, kDispatchReasons> kReasonNames{
    "only",      "best",        "tie",       "tie-random", "fail-open", "all-full",
    "kv-spread", "load-spread", "user",      "least-load", "turn",      "random",
    "prefix",    "most-room",   "imbalance", "held-work",  "held-pages"};

struct Bound {
  std::string_view name;
  double value;
  double low;
  bool above = false;  // the low end is out
  double high = std::numeric_limits<double>::max();
};

}  // namespace

std::string_view to_string(DispatchReason reason) {
  return kReasonNames[static_cast<std::size_t>(reason)];
}

Result<void> check_dispatch_options(const DispatchOptions& options) {
  for (const Bound& bound :
       {Bound{"kv_limit", options.kv_limit, 0, true, 1}, Bound{"lambda", options.lambda, 0},
        Bound{"omega", options.omega, 0}, Bound{"tie_ms", options.tie_ms, 0},
        Bound{"tie_fraction", options.tie_fraction, 0},
        Bound{"exchange_ms_per_token", options.exchange_ms_per_token, 0},
        Bound{"first_output_tokens", options.first_output_tokens, 0, true},
        Bound{"shortlist", static_cast<double>(options.shortlist), 1},
        Bound{"weight_running", options.weight_running, 0},
        Bound{"weight_waiting", options.weight_waiting, 0},
        Bound{"weight_kv", options.weight_kv, 0},
        Bound{"weight_experts", options.weight_experts, 0},
        Bound{"batch_tokens", options.batch_tokens, 0, true},
        Bound{"kv_spread", options.kv_spread, 0}, Bound{"load_spread", options.load_spread, 0},
        Bound{"cache_threshold", options.cache_threshold, 0, false, 1},
        Bound{"balance_absolute", options.balance_absolute, 0},
        Bound{"balance_relative", options.balance_relative, 1}}) {
    const bool low = bound.above ? bound.value > bound.low : bound.value >= bound.low;
    if (low && bound.value <= bound.high) continue;
    const std::string up_to = bound.high <= 1 ? fmt::format(" and at most {}", bound.high) : "";
    return invalid_argument(
        fmt::format("{} must be {} {}{}, is {}", bound.name, bound.above ? "above" : "at least",
                    bound.low, up_to, bound.value),
        std::string(bound.name));
  }
  return {};
}

Result<std::unique_ptr<Dispatch>> make_dispatch(std::string_view name,
                                                const DispatchOptions& options) {
  GIMBAL_RETURN_IF_ERROR(check_dispatch_options(options));
  for (const NamedRule& entry : kRules) {
    if (entry.name == name) return entry.make(options);
  }
  return invalid_argument(
      fmt::format("dispatch must be one of {}, is {}", fmt::join(dispatch_names(), ", "), name),
      "dispatch");
}

std::vector<std::string_view> dispatch_names() {
  std::vector<std::string_view> names;
  for (const NamedRule& entry : kRules)
    names.push_back(entry.name);
  return names;
}

}  // namespace gimbal::policy
