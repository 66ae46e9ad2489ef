#include "policy/preset.h"

#include <fmt/format.h>

#include <array>

namespace gimbal::policy {
namespace {

constexpr int kPaperBatch = 32;  // N of QLLM's baseline

constexpr std::array kPresets{
    Preset{.name = "vllm",
           .dispatch = "vllm",
           .order = "fcfs",
           .former = "vllm",
           .pace = "lockstep",
           .placement = "linear",
           .binding = "early",
           .preemption = "off"},
    Preset{.name = "vllm-eplb",
           .dispatch = "vllm",
           .order = "fcfs",
           .former = "vllm",
           .pace = "lockstep",
           .placement = "eplb",
           .binding = "early",
           .preemption = "off"},
    Preset{.name = "vllm-rr",
           .dispatch = "round-robin",
           .order = "fcfs",
           .former = "vllm",
           .pace = "lockstep",
           .placement = "linear",
           .binding = "early",
           .preemption = "off"},
    Preset{.name = "gimbal-v1",
           .dispatch = "gimbal-v1",
           .order = "sjf-priority-aging",
           .promote_after_s = 5.0,
           .former = "vllm",
           .pace = "lockstep",
           .placement = "gimbal-v1",
           .binding = "early",
           .preemption = "off"},
    Preset{.name = "gimbal-v2",
           .dispatch = "gimbal-v2",
           .order = "sjf-aging",
           .former = "vllm",
           .pace = "lockstep",
           .placement = "gimbal-v2",
           .feedback = true,
           .binding = "early",
           .preemption = "off"},
    Preset{.name = "tgi",
           .dispatch = "least-requests",
           .order = "fcfs",
           .former = "tgi",
           .max_sequences = kPaperBatch,
           .pace = "immediate",  // they know nothing of steps in common
           .placement = "linear",
           .binding = "early",
           .preemption = "off"},
    Preset{.name = "qllm",
           .dispatch = "least-requests",
           .order = "fcfs",
           .former = "qllm",     // N is that of its steps: best-effort sequences may fill 32 slots
           .pace = "immediate",  // they know nothing of steps in common
           .placement = "linear",
           .binding = "early",
           .preemption = "expert"},
    Preset{.name = "gimbal",
           .dispatch = "gimbal",
           .order = "sjf-aging",
           .former = "gimbal",
           .pace = "gang",
           .placement = "gimbal",
           .feedback = true,
           .binding = "early",
           .preemption = "layer"},
};

}  // namespace

Result<Preset> find_preset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return preset;
  }
  return invalid_argument(
      fmt::format("preset must be one of {}, is {}", fmt::join(preset_names(), ", "), name),
      "preset");
}

std::vector<std::string_view> preset_names() {
  std::vector<std::string_view> names;
  for (const Preset& preset : kPresets)
    names.push_back(preset.name);
  return names;
}

std::string preset_gaps(const Preset& preset) {
  std::vector<std::string> gaps;
  if (preset.placement != "linear") gaps.push_back(fmt::format("placement {}", preset.placement));
  if (preset.preemption != "off") gaps.push_back(fmt::format("preemption {}", preset.preemption));
  if (gaps.empty()) return {};
  return fmt::format("of preset {}, this takes no effect yet: {}", preset.name,
                     fmt::join(gaps, ", "));
}

}  // namespace gimbal::policy
