#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "policy/preset.h"
#include "sched/step_loop_options.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// How each engine schedules, as the command line says it.
struct SchedulerFlags {
  sched::StepLoopOptions options;
  std::int64_t kv_cache_bytes = 0;  // 0: the command's own default
  std::string record_path;          // empty: nowhere
  std::string aging = "0.1";
  std::string promote_after = "5";
  std::string prefill_floor = "auto";
  std::int64_t max_waiting_prefill_tokens = 0;

  // `kv_memory`: whose the KV cache's bytes are, and what 0 means; for the help.
  void add_to(CLI::App& command, const std::string& kv_memory);
  // Takes the preset's columns for options that the command line does not give.
  void apply(const policy::Preset& preset, const CLI::App& command);
  // Fills in what may be the word auto, and checks names and ranges. Errors name the flag.
  [[nodiscard]] Result<void> complete();

 private:
  void add_rules(CLI::App& command);
};

}  // namespace gimbal::apps
