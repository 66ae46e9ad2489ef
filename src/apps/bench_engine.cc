#include "apps/bench_engine.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "apps/cpu_watch.h"
#include "apps/engine_bench_report.h"
#include "apps/engine_bench_run.h"
#include "apps/engine_cost.h"
#include "apps/machine_limits.h"
#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "base/function_ref.h"
#include "base/progress.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  ModelFlags model;
  std::vector<int> prompt_tokens = {512, 2048};
  std::vector<int> batches = {1, 8, 32};
  int generate_tokens = 64;
  int depth = 128;
  int repetitions = 3;
  std::string json_path;
};

int largest(const std::vector<int>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

EngineBenchRun::Sizes sizes_of(const Arguments& arguments) {
  const bool decodes = arguments.generate_tokens > 0;
  return {.prompt_tokens = largest(arguments.prompt_tokens),
          .batch = decodes ? largest(arguments.batches) : 0,
          .depth = arguments.depth,
          .generate_tokens = arguments.generate_tokens};
}

// What the options' own ranges cannot say.
Result<void> check(Arguments& arguments) {
  std::erase(arguments.prompt_tokens, 0);
  if (arguments.prompt_tokens.empty() && arguments.generate_tokens == 0) {
    return invalid_argument("--prompt-tokens and --generate-tokens are both 0: nothing to measure",
                            "prompt-tokens");
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto config,
                          model_config::load_model_config(arguments.model.model_dir));
  const std::int64_t own = config.context_length;
  const std::int64_t context =
      arguments.model.max_model_len > 0 ? std::min(own, arguments.model.max_model_len) : own;
  const auto too_long = [context](const char* what, int tokens) {
    return invalid_argument(
        fmt::format("{} must be at most the context of {} tokens, is {}", what, context, tokens),
        what);
  };
  if (const int prompt = largest(arguments.prompt_tokens); prompt > context) {
    return too_long("--prompt-tokens", prompt);
  }
  const int last = arguments.depth + arguments.generate_tokens;
  if (arguments.generate_tokens > 0 && last > context) {
    return too_long("--depth plus --generate-tokens", last);
  }
  return {};
}

// The file is made before hours of measuring, not after.
Result<std::ofstream> open_json(const std::string& path) {
  std::ofstream file;
  if (path.empty()) return file;
  file.open(path);
  if (!file) return io_error("--json " + path, errno);
  return file;
}

// Takes turns between the work and the machine's limits, and fills the report.
class Session {
 public:
  Session(const Arguments& arguments, const LoadedModel& loaded, MachineLimits& limits)
      : arguments_(arguments),
        config_(loaded.model->config()),
        element_bytes_(static_cast<int>(tensor::size_of(loaded.model->dtype()))),
        limits_(limits),
        run_(loaded, sizes_of(arguments)),
        progress_("measuring", "repetitions", total_repetitions(arguments)) {}

  void measure(EngineBenchReport& report);

 private:
  struct Samples {
    std::vector<double> rates;
    std::vector<double> bandwidth_fractions;
    std::vector<double> compute_fractions;
    Duration time{};
    Duration service{};
    double bytes = 0.0;
    double distinct_experts = 0.0;
    std::int64_t steps = 0;
  };

  static std::uint64_t total_repetitions(const Arguments& arguments) {
    const std::size_t decodes = arguments.generate_tokens > 0 ? arguments.batches.size() : 0;
    return (arguments.prompt_tokens.size() + decodes) *
           static_cast<std::uint64_t>(arguments.repetitions);
  }

  // `output_rows`: rows of a step that go through the output matrix.
  EngineBenchRow repeat(std::string test, int batch, int output_rows,
                        FunctionRef<EngineBenchRun::Work()> work);
  MachineLimits::Sample sample_limits();
  void add(const EngineBenchRun::Work& work, int output_rows, const MachineLimits::Sample& limit,
           Samples& samples) const;

  const Arguments& arguments_;
  const model_config::ModelConfig& config_;
  int element_bytes_;
  MachineLimits& limits_;
  EngineBenchRun run_;
  Progress progress_;
  std::uint64_t done_ = 0;
  std::vector<double> bandwidths_;
  std::vector<double> matrix_rates_;
};

MachineLimits::Sample Session::sample_limits() {
  const MachineLimits::Sample sample = limits_.measure();
  bandwidths_.push_back(sample.read_bandwidth);
  matrix_rates_.push_back(sample.matrix_rate);
  return sample;
}

void Session::add(const EngineBenchRun::Work& work, int output_rows,
                  const MachineLimits::Sample& limit, Samples& samples) const {
  const double time = to_seconds(work.time);
  const auto steps = static_cast<double>(work.steps);
  const double distinct = static_cast<double>(work.distinct_experts) / steps;
  const double bytes = step_weight_bytes(config_, element_bytes_, distinct);
  const double flops = matrix_flops(config_, work.rows, work.steps * output_rows);
  samples.rates.push_back(static_cast<double>(work.rows) / time);
  samples.bandwidth_fractions.push_back(bytes * steps / time / limit.read_bandwidth);
  samples.compute_fractions.push_back(flops / time / limit.matrix_rate);
  samples.time += work.time;
  samples.service += work.service;
  samples.bytes += bytes * steps;
  samples.distinct_experts += distinct * steps;
  samples.steps += work.steps;
}

EngineBenchRow Session::repeat(std::string test, int batch, int output_rows,
                               FunctionRef<EngineBenchRun::Work()> work) {
  EngineBenchRow row{.test = std::move(test), .batch = batch};
  Samples samples;
  MachineLimits::Sample before = sample_limits();
  for (int repetition = 0; repetition < arguments_.repetitions; ++repetition) {
    const CpuWatch watch;
    const EngineBenchRun::Work done = work();
    row.disturbed = row.disturbed || watch.disturbed();
    const MachineLimits::Sample after = sample_limits();
    // A machine that others share wanders: hold a repetition against the time around it.
    add(done, output_rows,
        {.read_bandwidth = (before.read_bandwidth + after.read_bandwidth) / 2,
         .matrix_rate = (before.matrix_rate + after.matrix_rate) / 2},
        samples);
    before = after;
    progress_.update(++done_);
  }
  const auto steps = static_cast<double>(samples.steps);
  row.tokens_per_second = spread_of(samples.rates);
  row.bandwidth_fraction = spread_of(samples.bandwidth_fractions).median;
  row.compute_fraction = spread_of(samples.compute_fractions).median;
  row.distinct_experts = samples.distinct_experts / steps / std::max(1, config_.moe_layers());
  row.bytes_touched = samples.bytes / steps;
  row.service_fraction = to_seconds(samples.service) / to_seconds(samples.time);
  return row;
}

void Session::measure(EngineBenchReport& report) {
  progress_.update(0);
  for (const int tokens : arguments_.prompt_tokens) {
    (void)run_.prefill(tokens);  // touches the memory that it will work in
    report.rows.push_back(
        repeat(fmt::format("pp{}", tokens), 1, 1, [&] { return run_.prefill(tokens); }));
  }
  if (arguments_.generate_tokens > 0) {
    run_.fill_contexts();
    for (const int batch : arguments_.batches) {
      (void)run_.decode(batch, std::min(4, arguments_.generate_tokens));
      report.rows.push_back(repeat(fmt::format("tg{}@{}", arguments_.generate_tokens, batch), batch,
                                   batch,
                                   [&] { return run_.decode(batch, arguments_.generate_tokens); }));
    }
  }
  progress_.finish();
  report.read_bandwidth = spread_of(bandwidths_);
  report.matrix_rate = spread_of(matrix_rates_);
}

Result<void> bench_engine(Arguments& arguments) {
  GIMBAL_RETURN_IF_ERROR(check(arguments));
  GIMBAL_ASSIGN_OR_RETURN(std::ofstream json, open_json(arguments.json_path));
  GIMBAL_ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.model));
  const model::Model& model = *loaded.model;
  EngineBenchReport report{.model = model.config().architecture,
                           .weight_bytes = static_cast<double>(model.weight_bytes()),
                           .dtype = std::string(tensor::to_string(model.dtype())),
                           .repetitions = arguments.repetitions,
                           .depth = arguments.depth,
                           .processor = processor_name(),
                           .cpus = static_cast<int>(std::thread::hardware_concurrency()),
                           .threads = loaded.pool->workers(),
                           .pinned = !arguments.model.no_pin,
                           .isa = std::string(kernels::to_string(loaded.isa))};
  report.huge_page_share = std::min(1.0, huge_page_bytes() / report.weight_bytes);
  MachineLimits limits(
      *loaded.pool,
      {.isa = loaded.isa,
       .dtype = model.dtype(),
       .pages = arguments.model.small_pages ? tensor::PageKind::kSmall : tensor::PageKind::kHuge,
       .pin = report.pinned});
  report.matrix_yardstick = limits.matrix_yardstick();
  loaded.pool->pin_caller();
  Session(arguments, loaded, limits).measure(report);
  fmt::print("{}", to_text(report));
  if (arguments.json_path.empty()) return {};
  json << to_json(report).dump(2) << '\n';
  json.flush();
  if (!json) return io_error("--json " + arguments.json_path, errno);
  return {};
}

}  // namespace

void add_bench_engine(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand("engine", "prefill and decode of a model, without a server");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model.model_dir, "a Hugging Face checkpoint folder")
      ->required();
  command
      ->add_option("--prompt-tokens", arguments->prompt_tokens,
                   "lengths of the prompts, each run as one chunk; 0: none")
      ->delimiter(',')
      ->check(number_range(0, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--generate-tokens", arguments->generate_tokens,
                   "tokens to decode for each sequence; 0: none")
      ->check(number_range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--batch", arguments->batches, "numbers of sequences that decode together")
      ->delimiter(',')
      ->check(number_range(1, 4096))
      ->capture_default_str();
  command
      ->add_option("--depth", arguments->depth, "tokens in each sequence before the decoded ones")
      ->check(number_range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--repetitions", arguments->repetitions, "of each measurement")
      ->check(number_range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", arguments->json_path, "write the results to this file too");
  arguments->model.add_to(*command, false);
  command->callback([arguments, &status] {
    const auto result = bench_engine(*arguments);
    if (!result.ok()) status = report_failure("bench engine", result.error());
  });
}

}  // namespace gimbal::apps
