#include "sched/step_loop_options.h"

#include <fmt/format.h>

#include <cmath>

namespace gimbal::sched {
namespace {

Error out_of_range(std::string_view name, std::string_view expected, double value) {
  return invalid_argument(fmt::format("{} must be {}, is {}", name, expected, value),
                          std::string(name));
}

}  // namespace

Result<void> check_options(const StepLoopOptions& options) {
  struct Positive {
    std::string_view name;
    int value;
  };
  for (const auto& [name, value] :
       {Positive{"max_num_seqs", options.max_num_seqs},
        Positive{"max_num_batched_tokens", options.max_num_batched_tokens},
        Positive{"max_model_len", options.max_model_len},
        Positive{"vocab_size", options.vocab_size}, Positive{"kv_pages", options.kv_pages},
        Positive{"page_tokens", options.page_tokens}}) {
    if (value < 1) return out_of_range(name, "at least 1", value);
  }
  if (options.max_waiting_prefill_tokens && *options.max_waiting_prefill_tokens < 1) {
    return out_of_range("max_waiting_prefill_tokens", "at least 1",
                        static_cast<double>(*options.max_waiting_prefill_tokens));
  }
  const double c1 = options.prefill_cost.ms_per_token;
  const double cq = options.prefill_cost.ms_per_square_token;
  if (!(c1 > 0) || !std::isfinite(c1)) return out_of_range("prefill_cost", "above 0", c1);
  if (!(cq >= 0) || !std::isfinite(cq)) return out_of_range("prefill_cost", "at least 0", cq);
  if (!(options.max_stage_ms >= 0) || !std::isfinite(options.max_stage_ms)) {
    return out_of_range("max_stage_ms", "at least 0", options.max_stage_ms);
  }
  if (options.experts.experts < 0) {
    return out_of_range("experts", "at least 0", options.experts.experts);
  }
  if (options.experts.choices_per_row < 0 ||
      options.experts.choices_per_row > options.experts.experts) {
    return out_of_range("expert_choices", "from 0 to the experts", options.experts.choices_per_row);
  }
  const auto pool_tokens = std::int64_t{options.kv_pages} * options.page_tokens;
  if (pool_tokens < options.max_model_len) {
    return invalid_argument(
        fmt::format("max_model_len must fit the KV cache, {} pages of {} tokens, is {}",
                    options.kv_pages, options.page_tokens, options.max_model_len),
        "max_model_len");
  }
  return {};
}

policy::PrefillBudget prefill_budget(const StepLoopOptions& options) {
  policy::PrefillBudget budget{.ceiling = static_cast<double>(options.max_num_batched_tokens)};
  if (options.former == "gimbal") {
    budget.drain_steps = options.former_options.drain_steps;
    budget.floor = options.former_options.prefill_floor.value_or(0);
  }
  return budget;
}

}  // namespace gimbal::sched
