#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/serve_result.h"
#include "report/serve_result_json.h"
#include "report/table.h"
#include "sim/simulated_cluster.h"

namespace gimbal::sim {

// What a run was, beside what it came to.
struct RunLabel {
  std::string preset;
  std::uint64_t seed = 0;
  std::string model;
  std::string profile;
  std::string workload;
  std::optional<double> request_rate;
  double burstiness = 1;
};

// What the system did in a run. Times in seconds of virtual time.
struct RunWork {
  double makespan_s = 0;  // from the start to the last event
  std::uint64_t engine_steps = 0;
  std::uint64_t events = 0;
  std::uint64_t prompt_tokens = 0;     // of accepted requests
  std::uint64_t generated_tokens = 0;  // evicted and computed again count once
  std::uint64_t prefix_queried_tokens = 0;
  std::uint64_t prefix_hit_tokens = 0;
  std::uint64_t evictions = 0;
  std::uint64_t recomputed_tokens = 0;
  std::uint64_t gang_steps = 0;
  std::uint64_t gang_joins = 0;
  std::uint64_t dummy_steps = 0;
  std::uint64_t solo_steps = 0;
  std::int64_t pages_referenced = 0;  // at the end: 0, unless requests were lost
  struct Engine {
    int engine = 0;
    std::uint64_t steps = 0;
    std::uint64_t generated_tokens = 0;
    std::uint64_t prefill_rows = 0;
    double attention_s = 0;  // its own stages
    double service_s = 0;    // expert services, for its rows
    double wait_s = 0;       // for others in mid-step
  };
  std::vector<Engine> engines;
};

struct RunResult {
  RunLabel label;
  std::array<std::int64_t, kRequestEnds> ends{};
  report::ServeResult served;  // with nothing completed: zeros
  RunWork work;
  double wall_s = 0;  // that it took to simulate
};

// Of a cluster that has run.
[[nodiscard]] RunResult result_of(SimulatedCluster& cluster, const RunLabel& label,
                                  const report::ServeResultOptions& options = {});

// Field names of `vllm bench serve`, with p50 beside median; "preset", "seed", and what the system
// did. Nothing in it depends on when and where it was simulated but fields with "wall" in their
// names.
[[nodiscard]] Json run_to_json(const RunResult& run, const report::ServeJsonOptions& shown);

// A row a run: the numbers that people compare.
[[nodiscard]] report::Table runs_table(std::span<const RunResult> runs);
// A row for each second run against the one before it: what the first one's numbers are off.
// Requires: an even number of runs.
[[nodiscard]] report::Table errors_table(std::span<const RunResult> runs);
// A row a preset: means over its seeds, with intervals where there are several.
[[nodiscard]] report::Table presets_table(std::span<const RunResult> runs);

}  // namespace gimbal::sim
