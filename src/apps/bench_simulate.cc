#include "apps/bench_simulate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/resident_peak.h"
#include "apps/simulate_flags.h"
#include "base/progress.h"
#include "report/table.h"
#include "sim/run_report.h"
#include "sim/testbed.h"

namespace gimbal::apps {
namespace {

using report::Cell;

struct Arguments {
  SimulateFlags flags;
  std::vector<int> requests_of_one{10'000, 20'000, 40'000, 80'000};
  std::vector<int> engines{16, 64, 256, 1024};
  int group = 8;
  int requests_an_engine = 100;
  double rate_an_engine = 3.75;
  bool no_progress = false;
};

// One point of a curve.
struct Shape {
  int engines = 16;
  int group = 16;
  int requests = 0;
};

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

Result<std::vector<Cell>> measure(const Arguments& arguments, const CLI::App& command,
                                  const Shape& shape) {
  SimulateFlags flags = arguments.flags;
  flags.experts.data_parallel_size = shape.engines;
  flags.experts.expert_parallel_size = shape.group;
  flags.workload.num_prompts = shape.requests;
  flags.workload.request_rate = fmt::format("{}", arguments.rate_an_engine * shape.engines);
  GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, make_workload(flags.workload));
  GIMBAL_ASSIGN_OR_RETURN(sim::TestbedOptions options, flags.testbed());
  GIMBAL_ASSIGN_OR_RETURN(const auto testbed, sim::Testbed::make(std::move(options)));
  GIMBAL_ASSIGN_OR_RETURN(const policy::Preset preset,
                          policy::find_preset(flags.presets.empty() ? "gimbal" : flags.presets[0]));
  GIMBAL_ASSIGN_OR_RETURN(const sim::SystemOptions system, flags.system(preset, command));
  ResidentPeak::reset();
  const SteadyClock clock;
  const TimePoint started = clock.now();
  const double cpu = cpu_seconds();
  GIMBAL_ASSIGN_OR_RETURN(sim::SimulatedClusterOptions cluster_options,
                          sim::cluster_options(*testbed, system));
  GIMBAL_ASSIGN_OR_RETURN(const auto cluster,
                          sim::SimulatedCluster::make(std::move(cluster_options), requests));
  Progress progress(fmt::format("{} engines", shape.engines), "requests", requests.requests.size());
  cluster->run([&](std::size_t ended) {
    if (!arguments.no_progress) progress.update(ended);
    return true;
  });
  progress.finish();
  const double cpu_s = cpu_seconds() - cpu;
  const double wall_s = to_ms(clock.now() - started) * 1e-3;
  const sim::RunResult result = sim::result_of(*cluster, {});
  const auto steps = static_cast<double>(result.work.engine_steps);
  return std::vector<Cell>{Cell::of_count(shape.engines),
                           Cell::of_count(shape.group),
                           Cell::of_count(shape.requests),
                           Cell::of_number(result.work.makespan_s, 0),
                           Cell::of_number(steps * 1e-6, 2),
                           Cell::of_number(wall_s, 2),
                           Cell::of_number(cpu_s, 2),
                           Cell::of_number(cpu_s * 1e6 / steps, 2),
                           Cell::of_number(cpu_s * 1e6 / shape.requests, 1),
                           Cell::of_number(ResidentPeak::bytes() / (1 << 20), 0)};
}

Result<void> bench_simulate(const Arguments& arguments, const CLI::App& command) {
  report::Table table({"engines", "a group", "requests", "virtual s", "M engine steps", "wall s",
                       "CPU s", "CPU µs a step", "CPU µs a request", "peak MiB"});
  std::vector<Shape> shapes;
  for (const int requests : arguments.requests_of_one)
    shapes.push_back({.requests = requests});
  for (const int engines : arguments.engines) {
    shapes.push_back({.engines = engines,
                      .group = arguments.group,
                      .requests = engines * arguments.requests_an_engine});
  }
  for (const Shape& shape : shapes) {
    GIMBAL_ASSIGN_OR_RETURN(auto row, measure(arguments, command, shape));
    table.add_row(std::move(row));
  }
  fmt::print("{}", table.to_markdown());
  return {};
}

}  // namespace

void add_bench_simulate(CLI::App& bench, int& status) {
  auto* command =
      bench.add_subcommand("simulate", "how fast the simulator is, over requests and engines");
  const auto arguments = std::make_shared<Arguments>();
  workload::RandomLengthsOptions& lengths = arguments->flags.workload.random;
  lengths.input_len = 665;
  lengths.output_len = 135;
  lengths.sigma = 1.0;
  arguments->flags.add_to(*command);
  const auto add = [command](const char* flag, auto& value, const char* help) {
    return command->add_option(flag, value, help)->group("Curves")->capture_default_str();
  };
  add("--requests", arguments->requests_of_one, "of one group of 16 engines")->delimiter(',');
  add("--engine-counts", arguments->engines, "with the same requests an engine")->delimiter(',');
  add("--group-size", arguments->group, "of the engines above");
  add("--requests-per-engine", arguments->requests_an_engine, "of the engines above");
  add("--rate-per-engine", arguments->rate_an_engine, "requests a second");
  command->add_flag("--no-progress", arguments->no_progress, "no progress line");
  command->callback([arguments, command, &status] {
    const auto result = bench_simulate(*arguments, *command);
    if (!result.ok()) status = report_failure("bench simulate", result.error());
  });
}

}  // namespace gimbal::apps
