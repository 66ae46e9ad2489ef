#include "apps/bench_reproduce.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/output_file.h"
#include "apps/reproduction.h"
#include "apps/simulate_flags.h"
#include "base/progress.h"
#include "policy/preset.h"
#include "sim/run_report.h"
#include "sim/simulation.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  std::string what;
  std::vector<std::uint64_t> seeds = {1, 2, 3, 4, 5};
  int num_prompts = 1000;
  std::vector<std::string> workloads;
  std::string profile;
  std::string folder = "reproduced";
};

// Runs simulations by their flags; machines are made once.
class Simulations {
 public:
  Result<RunNumbers> run(const std::vector<std::string>& given, std::uint64_t seed) {
    CLI::App command;
    SimulateFlags flags;
    flags.add_to(command);
    std::vector<std::string> all = given;
    std::ranges::reverse(all);  // as CLI11 takes them
    try {
      command.parse(all);
    } catch (const CLI::ParseError& error) {
      return invalid_argument(error.what());
    }
    GIMBAL_ASSIGN_OR_RETURN(const WorkloadFlags workload_flags, flags.workload_of(seed));
    GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, make_workload(workload_flags));
    GIMBAL_ASSIGN_OR_RETURN(const policy::Preset preset,
                            policy::find_preset(flags.presets.front()));
    GIMBAL_ASSIGN_OR_RETURN(sim::SystemOptions system, flags.system(preset, command));
    system.seed = seed;
    if (!testbed_) {
      GIMBAL_ASSIGN_OR_RETURN(sim::TestbedOptions machines, flags.testbed());
      GIMBAL_ASSIGN_OR_RETURN(testbed_, sim::Testbed::make(std::move(machines)));
    }
    GIMBAL_ASSIGN_OR_RETURN(sim::SimulatedClusterOptions options,
                            sim::cluster_options(*testbed_, system));
    GIMBAL_ASSIGN_OR_RETURN(const auto cluster,
                            sim::SimulatedCluster::make(std::move(options), requests));
    cluster->run([](std::size_t /*ended*/) { return true; });
    const sim::RunResult result = sim::result_of(*cluster, {.preset = system.name, .seed = seed});
    return numbers_of(result);
  }

 private:
  static Result<RunNumbers> numbers_of(const sim::RunResult& result) {
    const auto completed = result.ends[static_cast<std::size_t>(sim::RequestEnd::kCompleted)];
    if (completed == 0) return Error{ErrorCode::kInternal, "no request was completed"};
    const report::GroupResult& all = result.served.all;
    return RunNumbers{.mean_ttft_ms = all.latency(report::Metric::kTtft).mean(),
                      .p99_ttft_ms = all.latency(report::Metric::kTtft).percentile(99),
                      .mean_tpot_ms = all.latency(report::Metric::kTpot).mean(),
                      .mean_e2el_ms = all.latency(report::Metric::kE2el).mean(),
                      .request_throughput = all.request_throughput};
  }

  std::unique_ptr<sim::Testbed> testbed_;
};

Result<void> write(const std::string& path, const std::string& text) {
  GIMBAL_ASSIGN_OR_RETURN(const auto file, OutputFile::open(path));
  file->stream() << text;
  return file->commit();
}

Result<void> bench_reproduce(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(Reproduction plan, find_reproduction(arguments.what));
  if (!arguments.profile.empty()) {
    const auto at = std::ranges::find(plan.flags, "--profile");
    *(at + 1) = arguments.profile;
  }
  if (!arguments.workloads.empty()) {
    std::erase_if(plan.workloads, [&](const ReproducedWorkload& workload) {
      return std::ranges::find(arguments.workloads, workload.name) == arguments.workloads.end();
    });
    if (plan.workloads.size() != arguments.workloads.size())
      return invalid_argument("--workloads: unknown workload among them", "workloads");
  }
  std::error_code error;
  std::filesystem::create_directories(arguments.folder, error);
  if (error) return io_error("--folder " + arguments.folder, error.value());
  plan.num_prompts = arguments.num_prompts;
  Simulations simulations;
  Progress progress("simulating", "runs", runs_of(plan, arguments.seeds.size()));
  auto result = reproduce(
      plan, arguments.seeds,
      [&](const std::vector<std::string>& flags, std::uint64_t seed) {
        auto numbers = simulations.run(flags, seed);
        if (!numbers.ok())
          return Result<RunNumbers>(
              numbers.error().within(fmt::format("simulate {}", fmt::join(flags, " "))));
        return numbers;
      },
      [&](std::size_t done) { progress.update(done); });
  progress.finish();
  if (!result.ok()) return result.error();
  const std::string text = reproduction_text(plan, *result);
  const std::string base = (std::filesystem::path(arguments.folder) / plan.name).string();
  GIMBAL_RETURN_IF_ERROR(write(base + ".md", text));
  GIMBAL_RETURN_IF_ERROR(write(base + ".json", reproduction_to_json(plan, *result).dump(1) + "\n"));
  fmt::print("{}\nwritten to {}.md and {}.json\n", text, base, base);
  return {};
}

}  // namespace

void add_bench_reproduce(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand(
      "reproduce", "a paper's claims in the simulator: tables, and a verdict for each");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("what", arguments->what,
                   fmt::format("{}", fmt::join(reproduction_names(), ", ")))
      ->required();
  command->add_option("--seeds", arguments->seeds, "of workloads and systems")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--num-prompts", arguments->num_prompts, "requests of a run")
      ->check(CLI::Range(10, 1'000'000))
      ->capture_default_str();
  command->add_option("--workloads", arguments->workloads, "only these")->delimiter(',');
  command->add_option("--profile", arguments->profile, "instead of h200-vllm");
  command->add_option("--folder", arguments->folder, "where NAME.md and NAME.json go")
      ->capture_default_str();
  command->callback([arguments, &status] {
    const auto result = bench_reproduce(*arguments);
    if (!result.ok()) status = report_failure("bench reproduce", result.error());
  });
}

}  // namespace gimbal::apps
