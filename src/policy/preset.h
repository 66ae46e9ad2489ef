#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace gimbal::policy {

// One system to compare: a value for every choice that the program has. A single option on the
// command line overrides its column. Value type.
struct Preset {
  std::string_view name;
  std::string_view dispatch;              // see make_dispatch
  std::string_view order;                 // see make_request_order
  std::optional<double> promote_after_s;  // of sjf-priority-aging
  std::string_view former;                // see make_batch_former
  std::optional<int> batch_tokens;        // B, rows of a step; nullopt: the program's default
  std::optional<int> max_sequences;       // running at once; nullopt: the program's default
  std::string_view pace;                  // gang, lockstep or immediate
  std::string_view placement;             // linear, eplb, gimbal-v1, gimbal-v2, gimbal
  bool feedback = false;                  // dispatch sees expert pressure
  std::string_view binding;               // early or late
  std::string_view preemption;            // off, layer or expert
};

// vllm, vllm-eplb, vllm-rr, gimbal-v1, gimbal-v2, tgi, qllm, gimbal. An unknown name is
// kInvalidArgument.
[[nodiscard]] Result<Preset> find_preset(std::string_view name);
[[nodiscard]] std::vector<std::string_view> preset_names();

// What of the preset takes no effect yet, as a sentence for people; empty: all of it does.
[[nodiscard]] std::string preset_gaps(const Preset& preset);

}  // namespace gimbal::policy
