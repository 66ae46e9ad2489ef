#include "apps/bench_serve.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/load_run.h"
#include "apps/metric_sampler.h"
#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "apps/request_flags.h"
#include "apps/result_file.h"
#include "apps/serve_target.h"
#include "apps/stop_signals.h"
#include "apps/workload_flags.h"
#include "base/log.h"
#include "base/progress.h"
#include "loadgen/expert_load.h"
#include "loadgen/load_generator.h"
#include "report/serve_result_json.h"
#include "report/serve_result_text.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  TargetFlags target;
  WorkloadFlags workload;
  RequestFlags request;
  std::optional<std::int64_t> max_concurrency;
  std::int64_t num_warmups = 1;
  std::vector<std::string> goodput;
  std::string percentile_metrics = "ttft,tpot,itl,e2el";
  std::string metric_percentiles = "90,95,99";
  double max_lag_ms = 5.0;
  double sample_metrics = 0.0;
  bool save_result = false;
  bool save_detailed = false;
  bool append_result = false;
  std::string result_dir;
  std::string result_filename;
  std::string label;
  std::vector<std::string> metadata;
  bool no_progress = false;

  [[nodiscard]] bool saves() const { return save_result || save_detailed || append_result; }
};

// Everything of the command line that can be wrong, read before the server is asked anything.
struct Plan {
  workload::Workload requests;
  loadgen::LoadOptions load;
  report::ServeResultOptions summary;
  report::ServeJsonOptions shown;
  report::ServeJsonOptions saved;  // and TTFT to content, which every result has
  report::RunInfo info;
};

Result<report::RunInfo> run_info(const Arguments& arguments, const workload::Workload& requests) {
  report::RunInfo info{
      .label = arguments.label, .backend = arguments.request.backend, .workload = requests.name};
  const std::time_t now = std::time(nullptr);
  info.date = fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(now));
  info.num_prompts = static_cast<std::int64_t>(requests.requests.size());
  GIMBAL_ASSIGN_OR_RETURN(info.request_rate, arguments.workload.rate());
  info.burstiness = arguments.workload.burstiness.value_or(1.0);
  info.max_concurrency = arguments.max_concurrency;
  info.seed = arguments.workload.seed;
  for (const std::string& entry : arguments.metadata) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) {
      return invalid_argument("--metadata is KEY=VALUE, not " + entry, "metadata");
    }
    info.metadata.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return info;
}

Result<Plan> make_plan(const Arguments& arguments) {
  Plan plan;
  GIMBAL_ASSIGN_OR_RETURN(plan.requests, make_workload(arguments.workload));
  GIMBAL_ASSIGN_OR_RETURN(plan.load.request,
                          arguments.request.options(arguments.workload, plan.requests));
  plan.load.max_concurrency = arguments.max_concurrency;
  plan.load.keep_text = arguments.save_detailed;
  GIMBAL_ASSIGN_OR_RETURN(plan.shown.metrics, report::parse_metrics(arguments.percentile_metrics));
  GIMBAL_ASSIGN_OR_RETURN(plan.shown.percentiles,
                          report::parse_percentiles(arguments.metric_percentiles));
  plan.saved = plan.shown;
  auto& saved = plan.saved.metrics;
  if (std::find(saved.begin(), saved.end(), report::Metric::kTtftContent) == saved.end()) {
    saved.push_back(report::Metric::kTtftContent);
  }
  for (const std::string& text : arguments.goodput) {
    GIMBAL_ASSIGN_OR_RETURN(const report::GoodputLimit limit, report::parse_goodput_limit(text));
    plan.summary.goodput.push_back(limit);
  }
  // When all are due at one moment, all but the first are late for no fault of the client's.
  const auto& requests = plan.requests.requests;
  const bool spread = requests.back().arrival > requests.front().arrival;
  plan.summary.max_lag_p99_ms =
      spread ? arguments.max_lag_ms : std::numeric_limits<double>::infinity();
  GIMBAL_ASSIGN_OR_RETURN(plan.info, run_info(arguments, plan.requests));
  return plan;
}

// A run, and what the server said of itself meanwhile.
struct Measured {
  loadgen::LoadResult run;
  nlohmann::json server_metrics;  // rises of counters; null without /metrics
  nlohmann::json server_samples;  // null unless asked for
  loadgen::ExpertLoad experts;
};

Result<Measured> measure(const Arguments& arguments, const Plan& plan, const ServeTarget& target) {
  Measured measured;
  const auto before = read_metrics(target);
  std::optional<MetricSampler> sampler;
  if (arguments.sample_metrics > 0.0) {
    sampler.emplace(target, from_ms(arguments.sample_metrics * 1e3));
  }
  Progress progress("requests", "answered", plan.requests.requests.size());
  loadgen::LoadOptions load = plan.load;
  if (!arguments.no_progress) {
    load.on_progress = [&](const loadgen::LoadProgress& at) {
      progress.update(static_cast<std::uint64_t>(at.answered));
    };
  }
  GIMBAL_ASSIGN_OR_RETURN(measured.run, loadgen::run_load(plan.requests, target.url, load));
  progress.finish();
  if (sampler) measured.server_samples = sampler->stop();
  const auto after = before ? read_metrics(target) : std::nullopt;
  if (after) {
    measured.server_metrics = loadgen::counter_rises(*before, *after);
    measured.experts = loadgen::expert_load(*before, *after);
  }
  return measured;
}

// vLLM's name for a result's file where none is given, and the seed in it.
std::string automatic_name(const Arguments& arguments, const report::RunInfo& info) {
  std::string name = fmt::format(
      "{}-{}qps{}-{}-seed{}-{}.json", info.label.empty() ? info.backend : info.label,
      arguments.workload.request_rate,
      info.max_concurrency ? fmt::format("-concurrency{}", *info.max_concurrency) : std::string(),
      info.model_id, arguments.workload.seed, info.date);
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

// Where the result goes; null where it is not saved.
Result<std::unique_ptr<ResultFile>> result_file(const Arguments& arguments,
                                                const report::RunInfo& info) {
  if (!arguments.saves()) {
    if (!arguments.result_filename.empty()) {
      log_warning("nothing is saved in {}: --save-result is not given", arguments.result_filename);
    }
    return std::unique_ptr<ResultFile>();
  }
  GIMBAL_ASSIGN_OR_RETURN(std::unique_ptr<ResultFile> file,
                          ResultFile::open({.folder = arguments.result_dir,
                                            .filename = arguments.result_filename,
                                            .automatic = automatic_name(arguments, info),
                                            .append = arguments.append_result}));
  if (file->replaces()) {
    log_warning("{} is there and will be replaced; --append-result keeps it", file->path());
  }
  return file;
}

// When the document cannot be saved, prints it without its lists of requests before it fails.
Result<void> save(ResultFile& file, const nlohmann::json& document,
                  const std::vector<report::RequestRecord>& records, bool detailed) {
  nlohmann::json whole = document;
  if (detailed) whole.update(report::details_json(records));
  const Result<void> saved = file.write(whole);
  if (saved.ok()) {
    fmt::print("saved to {}\n", file.path());
    return {};
  }
  fmt::print("{}\n", document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return saved.error().within("the result is not saved but printed");
}

void print_experts(const loadgen::ExpertLoad& experts) {
  if (experts.rank_load_max_over_mean) {
    fmt::print("expert rows: {:.3f} times as many of the busiest rank as of the mean\n",
               *experts.rank_load_max_over_mean);
  }
  if (experts.distinct_experts_per_step) {
    fmt::print("distinct experts a step, of all layers: {:.1f}\n",
               *experts.distinct_experts_per_step);
  }
  if (experts.exchange_bytes) {
    fmt::print("exchanged between engines: {:.1f} MB\n", *experts.exchange_bytes * 1e-6);
  }
}

void add_experts(nlohmann::json& document, const loadgen::ExpertLoad& experts) {
  const auto add = [&](const char* name, std::optional<double> value) {
    document[name] = nullptr;
    if (value) document[name] = *value;
  };
  add("rank_load_max_over_mean", experts.rank_load_max_over_mean);
  add("distinct_experts_per_step", experts.distinct_experts_per_step);
  add("exchange_bytes", experts.exchange_bytes);
}

void print_failures(const std::vector<report::RequestRecord>& records) {
  constexpr std::size_t kShown = 5;
  std::map<std::string, int> errors;
  for (const auto& record : records) {
    if (!record.completed()) ++errors[record.error];
  }
  std::size_t shown = 0;
  for (const auto& [error, count] : errors) {
    if (shown++ == kShown) return fmt::print("… and other failures\n");
    fmt::print("{} failed: {}\n", count, error);
  }
}

// The exit code of a run that was stopped, as a shell gives it for SIGINT.
constexpr int kStopped = 130;

int stopped_early() {
  fmt::print(stderr, "gimbal bench serve: stopped before anything was answered\n");
  return kStopped;
}

Result<int> bench_serve(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(Plan plan, make_plan(arguments));
  allow_many_connections();
  if (const std::string unused = arguments.request.of_no_use(); !unused.empty()) {
    log_info("not used: {}; token counts are those of the answers", unused);
  }
  GIMBAL_ASSIGN_OR_RETURN(const ServeTarget target, find_target(arguments.target));
  plan.load.request.model = plan.info.model_id = target.model;
  if (const std::string& name = arguments.request.served_model_name; !name.empty()) {
    plan.load.request.model = name;
  }
  plan.load.request.headers = target.headers;
  plan.load.request.api_key = target.api_key;
  plan.info.base_url = "http://" + target.url.authority() + target.url.base_path;
  plan.load.stop = &watch_stop_signals();
  GIMBAL_ASSIGN_OR_RETURN(const std::unique_ptr<ResultFile> file,
                          result_file(arguments, plan.info));
  if (arguments.num_warmups > 0) {
    GIMBAL_RETURN_IF_ERROR(warm_up(plan.requests, arguments.num_warmups, target.url, plan.load));
    if (plan.load.stop->load()) return stopped_early();
  }
  fmt::print("{}: {} requests to {} of {}, rate {}\n", plan.info.workload, plan.info.num_prompts,
             target.model, plan.info.base_url, arguments.workload.request_rate);
  GIMBAL_ASSIGN_OR_RETURN(const Measured measured, measure(arguments, plan, target));
  const loadgen::LoadResult& run = measured.run;
  if (run.records.empty()) return stopped_early();
  plan.summary.unanswered = run.dropped + run.unsent;
  const report::ServeResult result =
      report::summarize(run.records, run.lags, run.duration, plan.summary);
  fmt::print("{}", to_text(result, plan.shown));
  print_experts(measured.experts);
  print_failures(run.records);
  const bool stopped = plan.summary.unanswered > 0;
  if (stopped) fmt::print("stopped: {} dropped, {} not sent\n", run.dropped, run.unsent);
  if (file) {
    nlohmann::json document = to_json(result, plan.info, plan.saved);
    document["interrupted"] = stopped;
    document["server_metrics"] = measured.server_metrics;
    document["server_samples"] = measured.server_samples;
    add_experts(document, measured.experts);
    GIMBAL_RETURN_IF_ERROR(save(*file, document, run.records, arguments.save_detailed));
  }
  return stopped ? kStopped : result.all.completed > 0 ? 0 : 1;
}

void add_load_options(CLI::App& command, Arguments& arguments) {
  const auto add = [&](const char* flag, auto& value, const char* help) {
    return command.add_option(flag, value, help)->group("Requests");
  };
  add("--max-concurrency", arguments.max_concurrency, "most requests in flight; default: no limit")
      ->check(above_zero());
  add("--num-warmups", arguments.num_warmups, "requests before the measured ones")
      ->check(number_range(0, 100'000))
      ->capture_default_str();
}

void add_result_options(CLI::App& command, Arguments& arguments) {
  const auto add = [&](const char* flag, auto& value, const char* help) {
    return command.add_option(flag, value, help)->group("Results");
  };
  add("--goodput", arguments.goodput, "limits as ttft:MS tpot:MS e2el:MS, all of which count")
      ->expected(1, 3);
  add("--percentile-metrics", arguments.percentile_metrics,
      "of ttft, tpot, itl, e2el and ttft_content; a saved result always has the last")
      ->capture_default_str();
  add("--metric-percentiles", arguments.metric_percentiles,
      "numbers above 0, at most 100, with commas between")
      ->capture_default_str();
  add("--max-lag-ms", arguments.max_lag_ms,
      "the run is invalid when requests are sent later than this, p99")
      ->check(at_least_zero())
      ->capture_default_str();
  add("--sample-metrics", arguments.sample_metrics,
      "read the server's gauges every so many seconds into the result; 0: do not")
      ->check(zero_or_range(0.001, 3600.0))
      ->capture_default_str();
  add("--result-dir", arguments.result_dir, "folder of the saved result");
  add("--result-filename", arguments.result_filename,
      "its name; default: one that is free, as vLLM names it and with the seed");
  add("--label", arguments.label, "a name for the run, in the result");
  add("--metadata", arguments.metadata, "KEY=VALUE, fields of the result")->expected(1, 1000);
  const auto flag = [&](const char* name, bool& value, const char* help) {
    command.add_flag(name, value, help)->group("Results");
  };
  flag("--save-result", arguments.save_result, "save the result as JSON");
  flag("--save-detailed", arguments.save_detailed, "save it with lists of one entry a request");
  flag("--append-result", arguments.append_result,
       "save it behind what the file holds, which is replaced otherwise");
  flag("--disable-tqdm,--no-progress", arguments.no_progress, "no progress line");
}

}  // namespace

void add_bench_serve(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand(
      "serve", "send requests to an OpenAI-compatible server and measure its answers");
  const auto arguments = std::make_shared<Arguments>();
  arguments->target.add_to(*command);
  arguments->workload.add_to(*command);
  arguments->request.add_to(*command);
  add_load_options(*command, *arguments);
  add_result_options(*command, *arguments);
  command->callback([arguments, &status] {
    const auto result = bench_serve(*arguments);
    status = result.ok() ? *result : report_failure("bench serve", result.error());
  });
}

}  // namespace gimbal::apps
