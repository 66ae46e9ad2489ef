#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace gimbal::apps {

// One system that is compared, as scheduling flags of `gimbal simulate` and `gimbal serve`.
struct ReproducedSystem {
  std::string name;
  std::vector<std::string> flags;
  bool baseline = false;
};

struct ReproducedWorkload {
  std::string name;
  std::vector<std::string> flags;          // as `gimbal workload` takes them
  std::vector<std::string> system_flags;   // what systems need for it: no prefix cache
  std::vector<std::string> backlog_flags;  // what makes all requests arrive at once; a trace's own
                                           // times stand in the way of that
  // A trace: requests are the same whatever the seed, so that each seed gets a window of its own.
  bool windows = false;
  int times_prompts = 1;          // requests of a run, in Reproduction::num_prompts
  std::int64_t cache_tokens = 0;  // that an engine's KV holds; 0: what serve and simulate take
};

// What a paper says, and what of it is looked at.
struct PaperClaim {
  enum class Metric { kTtft, kTpot, kThroughput, kPrefixHits };
  enum class Over { kBest, kMean };  // of the cells: a workload at a load

  std::string text;    // "TTFT up to -17.8 %"
  std::string label;   // P: stated in the paper, R: reported of it second-hand
  std::string system;  // whose
  Metric metric = Metric::kTtft;
  Over over = Over::kMean;
  double change = 0;       // claimed, a fraction: -0.178
  double lowest_load = 0;  // cells that count: from this load on
  // And of this workload; empty: of all that no other claim names.
  std::string workload = {};
};

// A backlog so long that its ends do not count: so many times num_prompts, or a run if that is
// more.
inline constexpr int kSaturationRuns = 5;

// An experiment: systems on workloads at loads with seeds, and what it is held against.
struct Reproduction {
  std::string name;
  std::string title;
  std::string place;                      // what ran it, for people: "Simulated"
  std::vector<std::string> flags;         // of every run: machines and model
  std::vector<ReproducedSystem> systems;  // the first baseline's saturation is load 1
  std::vector<ReproducedWorkload> workloads;
  std::vector<double> loads;
  std::vector<PaperClaim> claims;
  bool front = false;  // systems are points of two curves: baselines, and the rest
  // Requests of a run, times what ReproducedWorkload::times_prompts and saturation_runs() say.
  int num_prompts = 1000;
};

// What one run came to.
struct RunNumbers {
  double mean_ttft_ms = 0;
  double p99_ttft_ms = 0;
  double mean_tpot_ms = 0;
  double mean_e2el_ms = 0;
  double request_throughput = 0;
  double cached_share = 0;  // of prompt tokens: found in a prefix cache
  std::int64_t requests = 0;
  std::int64_t refused = 0;  // of them not answered; the means are of the others
  bool valid = true;         // false: the client sent requests late (see `bench serve`)
};
using RunField = double RunNumbers::*;

// A workload at a load: numbers of each system, one a seed, seeds in the same order.
struct ReproducedCell {
  std::string workload;
  double load = 0;
  double request_rate = 0;
  std::map<std::string, std::vector<RunNumbers>> runs;
};

struct ReproductionResult {
  std::vector<std::uint64_t> seeds;
  std::vector<ReproducedCell> cells;
};

// The flags of one run, by what they are about.
struct RunFlags {
  std::vector<std::string> machines;  // Reproduction::flags
  std::vector<std::string> system;
  std::vector<std::string> workload;
  std::int64_t cache_tokens = 0;  // as ReproducedWorkload; in bytes it depends on the model

  [[nodiscard]] std::vector<std::string> all() const;  // that are flags
};

// Runs it: for each cell, all systems with a seed one after the other, so that what disturbs a
// machine falls on all alike. `run` does one run of these flags and this seed; `progress` is called
// after each with how many are done. Errors of a run name its flags.
using ReproductionRun =
    std::function<Result<RunNumbers>(const RunFlags& flags, std::uint64_t seed)>;
[[nodiscard]] Result<ReproductionResult> reproduce(
    const Reproduction& reproduction, const std::vector<std::uint64_t>& seeds,
    const ReproductionRun& run, const std::function<void(std::size_t done)>& progress);
// The backlog's requests, in Reproduction::num_prompts.
[[nodiscard]] int saturation_runs(const ReproducedWorkload& workload);
// How many calls of `run` that takes.
[[nodiscard]] std::size_t runs_of(const Reproduction& reproduction, std::size_t seeds);

}  // namespace gimbal::apps
