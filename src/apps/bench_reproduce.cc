#include "apps/bench_reproduce.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/draw.h"
#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "apps/output_file.h"
#include "apps/reproduction.h"
#include "apps/reproduction_plans.h"
#include "apps/reproduction_plot_script.h"
#include "apps/reproduction_report.h"
#include "apps/served_runs.h"
#include "apps/simulated_runs.h"
#include "base/progress.h"
#include "workload/trace_reader.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  ReproductionOptions plan;
  std::vector<std::uint64_t> seeds = {1, 2, 3, 4, 5};
  std::vector<std::string> traces;
  std::string server;  // a model's folder; empty: simulate
  std::string python_env;
  std::string folder = "reproduced";
  DrawOptions draw{.out = ""};  // empty: no plots
};

Result<void> write(const std::string& path, const std::string& text) {
  GIMBAL_ASSIGN_OR_RETURN(const auto file, OutputFile::open(path));
  file->stream() << text;
  return file->commit();
}

std::string name_of_model(const std::string& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

// Simulated or served, and named in errors by its flags.
Result<ReproductionRun> runner(const Arguments& arguments) {
  ReproductionRun run;
  if (arguments.server.empty()) {
    run = [simulated = std::make_shared<SimulatedRuns>()](
              const RunFlags& flags, std::uint64_t seed) { return simulated->run(flags, seed); };
  } else {
    GIMBAL_ASSIGN_OR_RETURN(ServedRuns served,
                            ServedRuns::make(arguments.server, arguments.python_env));
    run = [served = std::move(served)](const RunFlags& flags, std::uint64_t seed) {
      return served.run(flags, seed);
    };
  }
  return ReproductionRun([run](const RunFlags& flags, std::uint64_t seed) {
    auto numbers = run(flags, seed);
    if (numbers.ok()) return numbers;
    return Result<RunNumbers>(
        numbers.error().within(fmt::format("seed {} of {}", seed, fmt::join(flags.all(), " "))));
  });
}

// Found before hours of runs, not after: every seed takes a window of its own.
Result<void> check_length(const ReproducedTrace& trace, const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, workload::read_trace(trace.path));
  const std::size_t seeds = arguments.seeds.size();
  const auto window = static_cast<std::size_t>(arguments.plan.num_prompts);
  if (!requests.has_arrivals)
    return invalid_argument(
        fmt::format("--trace {}: {} has no arrival times", trace.name, trace.path), "trace");
  if (requests.requests.size() < seeds * window) {
    return invalid_argument(
        fmt::format("--trace {}: {} has {} requests, and {} seeds of --num-prompts {} take {}",
                    trace.name, trace.path, requests.requests.size(), seeds, window,
                    seeds * window),
        "trace");
  }
  return {};
}

// A seed that is there twice would count as two, and make intervals narrower than they are.
Result<void> check_seeds(std::vector<std::uint64_t> seeds) {
  std::ranges::sort(seeds);
  const auto twice = std::ranges::adjacent_find(seeds);
  if (twice == seeds.end()) return {};
  return invalid_argument(fmt::format("--seeds has {} more than once", *twice), "seeds");
}

Result<void> bench_reproduce(Arguments arguments) {
  GIMBAL_RETURN_IF_ERROR(check_seeds(arguments.seeds));
  for (const std::string& text : arguments.traces) {
    GIMBAL_ASSIGN_OR_RETURN(arguments.plan.traces.emplace_back(), parse_reproduced_trace(text));
    GIMBAL_RETURN_IF_ERROR(check_length(arguments.plan.traces.back(), arguments));
  }
  if (!arguments.server.empty()) arguments.plan.server_model = name_of_model(arguments.server);
  GIMBAL_ASSIGN_OR_RETURN(const Reproduction plan, make_reproduction(arguments.plan));
  GIMBAL_ASSIGN_OR_RETURN(const ReproductionRun run, runner(arguments));
  std::error_code error;
  fs::create_directories(arguments.folder, error);
  if (error) return io_error("--folder " + arguments.folder, error.value());
  Progress progress(arguments.server.empty() ? "simulating" : "serving", "runs",
                    runs_of(plan, arguments.seeds.size()));
  const auto result =
      reproduce(plan, arguments.seeds, run, [&](std::size_t done) { progress.update(done); });
  progress.finish();
  if (!result.ok()) return result.error();
  const std::string text = reproduction_text(plan, *result);
  const std::string base = (fs::path(arguments.folder) / plan.name).string();
  GIMBAL_RETURN_IF_ERROR(write(base + ".md", text));
  GIMBAL_RETURN_IF_ERROR(write(base + ".json", reproduction_to_json(plan, *result).dump(1) + "\n"));
  fmt::print("{}\nwritten to {}.md and {}.json\n", text, base, base);
  std::fflush(stdout);
  if (arguments.draw.out.empty()) return {};
  return draw(kReproductionPlotScript, {{"files", {base + ".json"}}}, arguments.draw);
}

void add_plan_options(CLI::App& command, Arguments& arguments) {
  ReproductionOptions& plan = arguments.plan;
  command.add_option("what", plan.what, fmt::format("{}", fmt::join(reproduction_names(), ", ")))
      ->required();
  command.add_option("--seeds", arguments.seeds, "of workloads and systems")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--num-prompts", plan.num_prompts, "requests of a run")
      ->check(number_range(10, 1'000'000))
      ->capture_default_str();
  command
      .add_option("--workloads", plan.workloads,
                  "only these length distributions, or multi-turn (v1: conversations and a prefix "
                  "cache that holds half of them); default: all, or none with --trace")
      ->delimiter(',');
  command
      .add_option("--trace", arguments.traces,
                  "NAME=FILE or FILE, several times: run on a trace, with its own arrivals "
                  "stretched to the load; the n-th seed takes its n-th --num-prompts requests")
      ->allow_extra_args(false);
  command.add_option("--loads", plan.loads, "shares of saturation; default: the plan's own")
      ->delimiter(',');
  command
      .add_option("--scale-lengths", plan.scale_lengths,
                  "multiply prompts and outputs, and the budgets of front, to fit a small machine")
      ->capture_default_str();
  command
      .add_option(
          "--topics", plan.topics,
          "requests come from 64 users (multi-turn: its own) who write about so many topics, "
          "each with popular experts of its own")
      ->check(number_range(1, 64))
      ->capture_default_str();
}

}  // namespace

void add_bench_reproduce(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand(
      "reproduce",
      "a paper's claims, in the simulator or on real servers: tables, and a verdict for each");
  const auto arguments = std::make_shared<Arguments>();
  add_plan_options(*command, *arguments);
  auto* profile =
      command->add_option("--profile", arguments->plan.profile, "simulated: the hardware")
          ->capture_default_str();
  command
      ->add_option("--routing", arguments->plan.routing,
                   "simulated: uniform, zipf:EXPONENT, or a file of `serve --record-routing`")
      ->capture_default_str();
  auto* server =
      command
          ->add_option("--server", arguments->server,
                       "a model's folder: instead of simulating, start a `gimbal serve` of it for "
                       "each run and load it over HTTP")
          ->excludes(profile);
  command->add_option("--python-env", arguments->python_env, "with --server: as for `serve`")
      ->needs(server);
  command->add_option("--folder", arguments->folder, "where NAME.md and NAME.json go")
      ->capture_default_str();
  command->add_option("--plots", arguments->draw.out, "draw them too, as PNG and SVG, here");
  command->add_option("--report-env", arguments->draw.environment, kReportEnvHelp);
  command->callback([arguments, &status] {
    const auto result = bench_reproduce(*arguments);
    if (!result.ok()) status = report_failure("bench reproduce", result.error());
  });
}

}  // namespace gimbal::apps
