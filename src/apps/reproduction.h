#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace gimbal::apps {

// One system that is compared, as flags of `gimbal simulate`.
struct ReproducedSystem {
  std::string name;
  std::vector<std::string> flags;
  bool baseline = false;
};

struct ReproducedWorkload {
  std::string name;
  std::vector<std::string> flags;
};

// What a paper says, and what of it is looked at.
struct PaperClaim {
  enum class Metric { kTtft, kTpot, kThroughput };
  enum class Over { kBest, kMean };  // of the cells: a workload at a load

  std::string text;    // "TTFT up to -17.8 %"
  std::string label;   // P: stated in the paper, R: reported of it second-hand
  std::string system;  // whose
  Metric metric = Metric::kTtft;
  Over over = Over::kMean;
  double change = 0;       // claimed, a fraction: -0.178
  double lowest_load = 0;  // cells that count: from this load on
};

// A backlog so long that its ends do not count.
inline constexpr int kSaturationRuns = 5;

// An experiment: systems on workloads at loads with seeds, and what it is held against.
struct Reproduction {
  std::string name;
  std::string title;
  std::vector<std::string> flags;         // of every run: machines and model
  std::vector<ReproducedSystem> systems;  // the first baseline's saturation is load 1
  std::vector<ReproducedWorkload> workloads;
  std::vector<double> loads;
  std::vector<PaperClaim> claims;
  int num_prompts =
      1000;  // of a run; of those that measure saturation, kSaturationRuns times as many
};

// "v1", "v2" or "front". Errors list the names.
[[nodiscard]] Result<Reproduction> find_reproduction(const std::string& name);
[[nodiscard]] std::vector<std::string> reproduction_names();

// What one run came to.
struct RunNumbers {
  double mean_ttft_ms = 0;
  double p99_ttft_ms = 0;
  double mean_tpot_ms = 0;
  double mean_e2el_ms = 0;
  double request_throughput = 0;
};

// A workload at a load: numbers of each system, one a seed, seeds in the same order.
struct ReproducedCell {
  std::string workload;
  double load = 0;
  double request_rate = 0;
  std::map<std::string, std::vector<RunNumbers>> runs;
};

struct ReproductionResult {
  std::vector<ReproducedCell> cells;
};

// Runs it in the simulator. `run` does one simulation of these flags and this seed; `progress` is
// called after each with how many are done. Errors of a run name its flags.
using SimulationRun =
    std::function<Result<RunNumbers>(const std::vector<std::string>& flags, std::uint64_t seed)>;
[[nodiscard]] Result<ReproductionResult> reproduce(
    const Reproduction& reproduction, const std::vector<std::uint64_t>& seeds,
    const SimulationRun& run, const std::function<void(std::size_t done)>& progress);
// How many calls of `run` that takes.
[[nodiscard]] std::size_t runs_of(const Reproduction& reproduction, std::size_t seeds);

// Markdown: a table of all cells with bootstrap intervals over seeds, and a line of verdict for
// each claim. A claim is held against the better of the baselines, cell by cell and metric by
// metric.
[[nodiscard]] std::string reproduction_text(const Reproduction& reproduction,
                                            const ReproductionResult& result);
[[nodiscard]] Json reproduction_to_json(const Reproduction& reproduction,
                                        const ReproductionResult& result);

}  // namespace gimbal::apps
