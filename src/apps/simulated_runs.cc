#include "apps/simulated_runs.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "apps/simulate_flags.h"
#include "policy/preset.h"
#include "sim/run_report.h"

namespace gimbal::apps {
namespace {

Result<RunNumbers> numbers_of(const sim::RunResult& result) {
  const auto completed = result.ends[static_cast<std::size_t>(sim::RequestEnd::kCompleted)];
  if (completed == 0) return Error{ErrorCode::kInternal, "no request was completed"};
  const std::int64_t all_ends =
      std::accumulate(result.ends.begin(), result.ends.end(), std::int64_t{0});
  const report::GroupResult& all = result.served.all;
  return RunNumbers{.mean_ttft_ms = all.latency(report::Metric::kTtft).mean(),
                    .p99_ttft_ms = all.latency(report::Metric::kTtft).percentile(99),
                    .mean_tpot_ms = all.latency(report::Metric::kTpot).mean(),
                    .mean_e2el_ms = all.latency(report::Metric::kE2el).mean(),
                    .request_throughput = all.request_throughput,
                    .cached_share = all.cached_share(),
                    .requests = all_ends,
                    .refused = all_ends - completed};
}

}  // namespace

Result<RunNumbers> SimulatedRuns::run(const RunFlags& given, std::uint64_t seed) {
  CLI::App command;
  SimulateFlags flags;
  flags.add_to(command);
  std::vector<std::string> all = given.all();
  std::ranges::reverse(all);  // as CLI11 takes them
  try {
    command.parse(all);
  } catch (const CLI::ParseError& error) {
    return invalid_argument(error.what());
  }
  GIMBAL_ASSIGN_OR_RETURN(const WorkloadFlags workload_flags, flags.workload_of(seed));
  GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, make_workload(workload_flags));
  GIMBAL_ASSIGN_OR_RETURN(const policy::Preset preset, policy::find_preset(flags.presets.front()));
  GIMBAL_ASSIGN_OR_RETURN(sim::SystemOptions system, flags.system(preset, command));
  system.seed = seed;
  if (!testbed_) {
    GIMBAL_ASSIGN_OR_RETURN(sim::TestbedOptions machines, flags.testbed());
    GIMBAL_ASSIGN_OR_RETURN(testbed_, sim::Testbed::make(std::move(machines)));
  }
  if (given.cache_tokens > 0) {
    const double bytes = testbed_->options().model.kv_bytes_per_token();
    system.kv_cache_bytes = std::llround(bytes * static_cast<double>(given.cache_tokens));
  }
  GIMBAL_ASSIGN_OR_RETURN(sim::SimulatedClusterOptions options,
                          sim::cluster_options(*testbed_, system));
  GIMBAL_ASSIGN_OR_RETURN(const auto cluster,
                          sim::SimulatedCluster::make(std::move(options), requests));
  cluster->run([](std::size_t /*ended*/) { return true; });
  return numbers_of(sim::result_of(*cluster, {.preset = system.name, .seed = seed}));
}

}  // namespace gimbal::apps
