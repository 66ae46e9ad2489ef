#include "apps/reproduction.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace gimbal::apps {
namespace {

void append(std::vector<std::string>& flags, const std::vector<std::string>& more) {
  flags.insert(flags.end(), more.begin(), more.end());
}

// One workload, at all loads.
class WorkloadRuns {
 public:
  WorkloadRuns(const Reproduction& reproduction, const ReproducedWorkload& workload,
               const std::vector<std::uint64_t>& seeds, const ReproductionRun& run)
      : reproduction_(reproduction), workload_(workload), seeds_(seeds), run_(run) {}

  // Requests a second that the first baseline clears, mean over seeds.
  Result<double> saturation(const std::function<void()>& done) const {
    double sum = 0;
    for (std::size_t index = 0; index < seeds_.size(); ++index) {
      RunFlags flags = flags_of(reproduction_.systems.front(), saturation_runs(workload_), index);
      append(flags.workload, workload_.backlog_flags);
      GIMBAL_ASSIGN_OR_RETURN(const RunNumbers all_at_once, run_(flags, seeds_[index]));
      sum += all_at_once.request_throughput;
      done();
    }
    return sum / static_cast<double>(seeds_.size());
  }

  Result<ReproducedCell> cell(double load, double rate, const std::function<void()>& done) const {
    ReproducedCell cell{.workload = workload_.name, .load = load, .request_rate = rate, .runs = {}};
    for (std::size_t index = 0; index < seeds_.size(); ++index) {
      for (const ReproducedSystem& system : reproduction_.systems) {
        RunFlags flags = flags_of(system, workload_.times_prompts, index);
        append(flags.workload, {"--request-rate", fmt::format("{:.4f}", rate)});
        GIMBAL_ASSIGN_OR_RETURN(const RunNumbers numbers, run_(flags, seeds_[index]));
        cell.runs[system.name].push_back(numbers);
        done();
      }
    }
    return cell;
  }

 private:
  RunFlags flags_of(const ReproducedSystem& system, int times, std::size_t index) const {
    RunFlags flags{.machines = reproduction_.flags,
                   .system = system.flags,
                   .workload = {},
                   .cache_tokens = workload_.cache_tokens};
    append(flags.system, workload_.system_flags);
    append(flags.workload, {"--num-prompts", fmt::format("{}", times * reproduction_.num_prompts)});
    append(flags.workload, workload_.flags);
    if (workload_.windows) {
      const auto first = index * static_cast<std::size_t>(reproduction_.num_prompts);
      append(flags.workload, {"--skip-prompts", fmt::format("{}", first)});
    }
    return flags;
  }

  const Reproduction& reproduction_;
  const ReproducedWorkload& workload_;
  const std::vector<std::uint64_t>& seeds_;
  const ReproductionRun& run_;
};

}  // namespace

std::vector<std::string> RunFlags::all() const {
  std::vector<std::string> flags = machines;
  append(flags, system);
  append(flags, workload);
  return flags;
}

int saturation_runs(const ReproducedWorkload& workload) {
  return std::max(kSaturationRuns, workload.times_prompts);
}

std::size_t runs_of(const Reproduction& reproduction, std::size_t seeds) {
  const std::size_t cells = reproduction.workloads.size() * reproduction.loads.size();
  return seeds * (reproduction.workloads.size() + cells * reproduction.systems.size());
}

Result<ReproductionResult> reproduce(const Reproduction& reproduction,
                                     const std::vector<std::uint64_t>& seeds,
                                     const ReproductionRun& run,
                                     const std::function<void(std::size_t done)>& progress) {
  GIMBAL_CHECK(!seeds.empty() && reproduction.systems.front().baseline);
  ReproductionResult result{.seeds = seeds, .cells = {}};
  std::size_t count = 0;
  const auto done = [&] { progress(++count); };
  for (const ReproducedWorkload& workload : reproduction.workloads) {
    const WorkloadRuns runs(reproduction, workload, seeds, run);
    GIMBAL_ASSIGN_OR_RETURN(const double saturation, runs.saturation(done));
    for (const double load : reproduction.loads) {
      GIMBAL_ASSIGN_OR_RETURN(result.cells.emplace_back(),
                              runs.cell(load, load * saturation, done));
    }
  }
  return result;
}

}  // namespace gimbal::apps
