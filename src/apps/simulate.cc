#include "apps/simulate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "apps/output_file.h"
#include "apps/simulate_flags.h"
#include "apps/stop_signals.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/trace.h"
#include "cluster/decision_json.h"
#include "policy/preset.h"
#include "sim/run_report.h"
#include "sim/testbed.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  SimulateFlags flags;
  std::string json_path;
  std::string trace_path;
  std::int64_t trace_events = 1'000'000;
  std::vector<std::string> goodput;
  std::string metric_percentiles = "90,95,99";
  bool no_progress = false;
};

// All that is read before anything runs.
struct Plan {
  std::unique_ptr<sim::Testbed> testbed;
  std::vector<policy::Preset> presets;
  std::vector<std::uint64_t> seeds;
  report::ServeResultOptions summary;
  report::ServeJsonOptions shown;
  std::size_t copies = 1;  // of each run
  const std::atomic<bool>* stop = nullptr;

  [[nodiscard]] std::size_t runs() const { return presets.size() * seeds.size() * copies; }
};

Result<Plan> make_plan(const Arguments& arguments, const CLI::App& command) {
  const SimulateFlags& flags = arguments.flags;
  Plan plan;
  std::vector<std::string> names = flags.presets;
  if (names.empty()) names.emplace_back("gimbal");
  for (const std::string& name : names) {
    GIMBAL_ASSIGN_OR_RETURN(plan.presets.emplace_back(), policy::find_preset(name));
    GIMBAL_RETURN_IF_ERROR(flags.system(plan.presets.back(), command));
    const std::string gaps = policy::preset_gaps(plan.presets.back());
    if (!gaps.empty()) log_warning("{}", gaps);
  }
  if (arguments.flags.compare_exact && flags.exact) {
    return invalid_argument("--compare-exact runs without and with --exact: give one of them",
                            "compare-exact");
  }
  plan.copies = arguments.flags.compare_exact ? 2 : 1;
  GIMBAL_ASSIGN_OR_RETURN(plan.seeds, flags.seed_list());
  GIMBAL_ASSIGN_OR_RETURN(plan.shown.percentiles,
                          report::parse_percentiles(arguments.metric_percentiles));
  plan.shown.metrics = {report::Metric::kTtft, report::Metric::kTpot, report::Metric::kItl,
                        report::Metric::kE2el};
  for (const std::string& text : arguments.goodput) {
    GIMBAL_ASSIGN_OR_RETURN(const report::GoodputLimit limit, report::parse_goodput_limit(text));
    plan.summary.goodput.push_back(limit);
  }
  GIMBAL_ASSIGN_OR_RETURN(sim::TestbedOptions testbed, flags.testbed());
  GIMBAL_ASSIGN_OR_RETURN(plan.testbed, sim::Testbed::make(std::move(testbed)));
  return plan;
}

// Of several runs each has files of its own.
std::string path_of(const std::string& path, const Plan& plan, const sim::RunLabel& label) {
  return plan.runs() == 1 ? path : fmt::format("{}.{}.{}", path, label.preset, label.seed);
}

// The files that a run writes while it runs.
class RunFiles {
 public:
  static Result<std::unique_ptr<RunFiles>> open(const Arguments& arguments, const Plan& plan,
                                                const sim::RunLabel& label, int engines) {
    std::unique_ptr<RunFiles> files(new RunFiles());
    const SimulateFlags& flags = arguments.flags;
    if (const std::string& path = flags.dispatch.decisions_path; !path.empty()) {
      GIMBAL_ASSIGN_OR_RETURN(files->decisions_, OutputFile::open(path_of(path, plan, label)));
    }
    if (!arguments.trace_path.empty()) {
      GIMBAL_ASSIGN_OR_RETURN(files->trace_file_,
                              OutputFile::open(path_of(arguments.trace_path, plan, label)));
      files->trace_ = std::make_unique<Trace>(
          files->trace_file_->stream(),
          TraceOptions{.max_events = static_cast<std::size_t>(arguments.trace_events)});
    }
    if (const std::string& base = flags.scheduler.record_path; !base.empty()) {
      const std::string path = path_of(base, plan, label);
      GIMBAL_ASSIGN_OR_RETURN(files->dispatch_file_, OutputFile::open(path + ".dispatch"));
      files->dispatch_.emplace(files->dispatch_file_->stream());
      for (int i = 0; i < engines; ++i) {
        GIMBAL_ASSIGN_OR_RETURN(files->engine_files_.emplace_back(),
                                OutputFile::open(fmt::format("{}.engine{}", path, i)));
        files->engines_.push_back(
            std::make_unique<sched::EventRecorder>(files->engine_files_.back()->stream()));
      }
    }
    return files;
  }

  void give_to(sim::SimulatedClusterOptions& cluster) {
    cluster.trace = trace_.get();
    if (decisions_) {
      cluster.on_decision = [this](const cluster::DecisionRecord& record) {
        decisions_->stream() << cluster::decision_to_json(record) << '\n';
      };
    }
    if (!dispatch_) return;
    cluster.dispatch_recorder = &*dispatch_;
    for (const auto& recorder : engines_)
      cluster.recorders.push_back(recorder.get());
  }

  Result<void> commit() {
    if (trace_) {
      if (trace_->dropped() > 0) {
        log_warning("the trace is full: {} later events are not in it (--trace-max-events)",
                    trace_->dropped());
      }
      GIMBAL_RETURN_IF_ERROR(trace_->finish());
    }
    for (const auto* file : {&decisions_, &trace_file_, &dispatch_file_}) {
      if (*file) GIMBAL_RETURN_IF_ERROR((*file)->commit());
    }
    for (const auto& file : engine_files_)
      GIMBAL_RETURN_IF_ERROR(file->commit());
    return {};
  }

 private:
  RunFiles() = default;

  std::unique_ptr<OutputFile> decisions_;
  std::unique_ptr<OutputFile> trace_file_;
  std::unique_ptr<Trace> trace_;
  std::unique_ptr<OutputFile> dispatch_file_;
  std::optional<cluster::DispatchRecorder> dispatch_;
  std::vector<std::unique_ptr<OutputFile>> engine_files_;
  std::vector<std::unique_ptr<sched::EventRecorder>> engines_;
};

Result<sim::RunResult> run_one(const Arguments& arguments, const Plan& plan,
                               const sim::SystemOptions& system, const workload::Workload& requests,
                               const sim::RunLabel& label) {
  GIMBAL_ASSIGN_OR_RETURN(sim::SimulatedClusterOptions options,
                          sim::cluster_options(*plan.testbed, system));
  options.topics = std::max(1, arguments.flags.workload.topics);
  GIMBAL_ASSIGN_OR_RETURN(
      const auto files,
      RunFiles::open(arguments, plan, label, plan.testbed->options().cluster.engines()));
  files->give_to(options);
  GIMBAL_ASSIGN_OR_RETURN(const auto cluster,
                          sim::SimulatedCluster::make(std::move(options), requests));
  Progress progress(fmt::format("{} seed {}", label.preset, label.seed), "requests",
                    requests.requests.size());
  const SteadyClock clock;
  const TimePoint started = clock.now();
  cluster->run([&](std::size_t ended) {
    if (!arguments.no_progress) progress.update(ended);
    return !plan.stop->load();
  });
  progress.finish();
  if (plan.stop->load()) return Error{ErrorCode::kCancelled, "stopped"};
  sim::RunResult result = sim::result_of(*cluster, label, plan.summary);
  result.wall_s = to_ms(clock.now() - started) * 1e-3;
  GIMBAL_RETURN_IF_ERROR(files->commit());
  return result;
}

Result<std::vector<sim::RunResult>> run_all(const Arguments& arguments, const Plan& plan,
                                            const CLI::App& command) {
  std::vector<sim::RunResult> results;
  for (const std::uint64_t seed : plan.seeds) {
    GIMBAL_ASSIGN_OR_RETURN(const WorkloadFlags flags, arguments.flags.workload_of(seed));
    GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, make_workload(flags));
    if (results.empty()) {
      fmt::print("{}: {} requests, {} on {} engines of {}\n", requests.name,
                 requests.requests.size(), plan.testbed->options().model.name,
                 plan.testbed->options().cluster.engines(), plan.testbed->options().profile.name);
      std::fflush(stdout);
    }
    for (const policy::Preset& preset : plan.presets) {
      GIMBAL_ASSIGN_OR_RETURN(sim::SystemOptions system, arguments.flags.system(preset, command));
      system.seed = seed;
      system.scheduler.report_order = !arguments.flags.scheduler.record_path.empty();
      sim::RunLabel label{.preset = system.name,
                          .seed = seed,
                          .model = plan.testbed->options().model.name,
                          .profile = plan.testbed->options().profile.name,
                          .workload = requests.name,
                          .burstiness = flags.burstiness.value_or(1.0)};
      GIMBAL_ASSIGN_OR_RETURN(label.request_rate, flags.rate());
      GIMBAL_ASSIGN_OR_RETURN(results.emplace_back(),
                              run_one(arguments, plan, system, requests, label));
      if (!arguments.flags.compare_exact) continue;
      system.exact = true;
      label.preset += " exact";
      GIMBAL_ASSIGN_OR_RETURN(results.emplace_back(),
                              run_one(arguments, plan, system, requests, label));
    }
  }
  return results;
}

void print_ends(const std::vector<sim::RunResult>& results) {
  for (const sim::RunResult& run : results) {
    for (int i = 0; i < sim::kRequestEnds; ++i) {
      const auto end = static_cast<sim::RequestEnd>(i);
      const std::int64_t count = run.ends[static_cast<std::size_t>(i)];
      if (end == sim::RequestEnd::kCompleted || count == 0) continue;
      fmt::print("{} seed {}: {} requests {}\n", run.label.preset, run.label.seed, count,
                 to_string(end));
    }
  }
}

Result<int> simulate(const Arguments& arguments, const CLI::App& command) {
  const std::atomic<bool>& stop = watch_stop_signals();
  GIMBAL_ASSIGN_OR_RETURN(Plan plan, make_plan(arguments, command));
  plan.stop = &stop;
  std::unique_ptr<OutputFile> json;
  if (!arguments.json_path.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(json, OutputFile::open(arguments.json_path));
  }
  GIMBAL_ASSIGN_OR_RETURN(const std::vector<sim::RunResult> results,
                          run_all(arguments, plan, command));
  fmt::print("\n{}", sim::runs_table(results).to_markdown());
  if (plan.seeds.size() > 1) {
    fmt::print("\nmeans over seeds:\n\n{}", sim::presets_table(results).to_markdown());
  }
  if (arguments.flags.compare_exact) {
    fmt::print("\nstep-level against exact:\n\n{}", sim::errors_table(results).to_markdown());
  }
  print_ends(results);
  double wall = 0;
  std::uint64_t steps = 0;
  std::int64_t completed = 0;
  nlohmann::json runs = nlohmann::json::array();
  for (const sim::RunResult& run : results) {
    runs.push_back(sim::run_to_json(run, plan.shown));
    wall += run.wall_s;
    steps += run.work.engine_steps;
    completed += run.ends[static_cast<std::size_t>(sim::RequestEnd::kCompleted)];
  }
  fmt::print("\nsimulated in {:.2f} s, {:.2f} µs an engine step\n", wall,
             steps > 0 ? wall * 1e6 / static_cast<double>(steps) : 0.0);
  if (json) {
    json->stream() << nlohmann::json{{"runs", std::move(runs)}}.dump(1) << '\n';
    GIMBAL_RETURN_IF_ERROR(json->commit());
  }
  return completed > 0 ? 0 : 1;
}

}  // namespace

void add_simulate(CLI::App& program, int& status) {
  auto* command = program.add_subcommand(
      "simulate", "what a system would do to a workload, on machines that need not be there");
  const auto arguments = std::make_shared<Arguments>();
  arguments->flags.add_to(*command);
  const auto results = [command](const char* flag, auto& value, const char* help) {
    return command->add_option(flag, value, help)->group("Results");
  };
  results("--json", arguments->json_path, "write all results to this file");
  results("--trace-out", arguments->trace_path,
          "write what ran when to this file, as a trace that Perfetto opens");
  results("--trace-max-events", arguments->trace_events, "events of the trace")
      ->check(above_zero())
      ->capture_default_str();
  results("--goodput", arguments->goodput, "limits as ttft:MS tpot:MS e2el:MS, all of which count")
      ->expected(1, 3);
  results("--metric-percentiles", arguments->metric_percentiles,
          "numbers above 0, at most 100, with commas between")
      ->capture_default_str();
  command
      ->add_flag("--compare-exact", arguments->flags.compare_exact,
                 "run everything twice, without and with --exact, and print how far they differ")
      ->group("Results");
  command->add_flag("--no-progress", arguments->no_progress, "no progress line")->group("Results");
  command->callback([arguments, command, &status] {
    const auto result = simulate(*arguments, *command);
    status = result.ok() ? *result : report_failure("simulate", result.error());
  });
}

}  // namespace gimbal::apps
