#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/dispatch_flags.h"
#include "apps/expert_flags.h"
#include "apps/scheduler_flags.h"
#include "apps/workload_flags.h"
#include "base/result.h"
#include "policy/preset.h"
#include "sim/testbed.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

inline constexpr int kGpuBatchedTokens = 8192;  // rows of a step, as vLLM's own there

// What `gimbal simulate` asks: machines, model, workload, and every scheduling flag of `serve`.
struct SimulateFlags {
  WorkloadFlags workload;
  std::string workload_spec;  // a dataset's name or a file; beside --dataset-name and --trace
  std::string cluster_path;   // empty: --engines and --expert-parallel-size
  std::string cluster_flag = "--cluster";  // that gave it, for errors
  std::string model = "qwen3-30b-a3b";
  std::string profile = "h200";
  std::vector<std::string> presets;  // empty: gimbal
  std::vector<std::string> seeds;    // numbers and ranges; empty: --seed
  int max_model_len = 0;
  SchedulerFlags scheduler;
  ExpertFlags experts;
  DispatchFlags dispatch;
  std::string routing = "uniform";
  int routing_topics = 1;
  std::uint64_t routing_seed = 0;
  bool exact = false;          // see sim::ExactRunner
  bool compare_exact = false;  // each run a second time, exact

  void add_to(CLI::App& command);

  // Each error names the flag or the file at fault.
  [[nodiscard]] Result<std::vector<std::uint64_t>> seed_list() const;
  [[nodiscard]] Result<WorkloadFlags> workload_of(std::uint64_t seed) const;
  [[nodiscard]] Result<sim::TestbedOptions> testbed() const;
  // The flags as this preset's system; what the command line gives overrides its columns. Errors:
  // also flags that are given and would have no effect.
  [[nodiscard]] Result<sim::SystemOptions> system(const policy::Preset& preset,
                                                  const CLI::App& command) const;
};

}  // namespace gimbal::apps
