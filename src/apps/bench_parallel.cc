#include "apps/bench_parallel.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "apps/parallel_run.h"
#include "apps/spread.h"
#include "base/progress.h"
#include "policy/batch_former.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  ModelFlags model;
  int engines = 2;
  std::vector<std::string> mixes{"decode", "uneven", "alternate"};
  std::vector<std::string> paces{"gang", "lockstep", "immediate", "apart"};
  std::vector<std::string> workers{"own", "shared"};
  ParallelRunOptions run;
  int max_num_batched_tokens = 512;
  double drain_steps = policy::BatchFormerOptions().drain_steps;
  int repetitions = 3;
  std::string json_path;
};

// One line of the table: repetitions of one pace on one mix.
struct Row {
  std::string mix;
  std::string workers;
  std::string pace;
  std::vector<ParallelResult> results;

  [[nodiscard]] std::vector<double> values(double ParallelResult::*field) const {
    std::vector<double> all;
    for (const ParallelResult& result : results)
      all.push_back(result.*field);
    return all;
  }
};

engine::EngineFleetOptions fleet_options(const Arguments& arguments, const LoadedModel& loaded,
                                         const Row& row) {
  engine::EngineFleetOptions fleet;
  fleet.engines = arguments.engines;
  fleet.expert_parallel_size = row.pace == "apart" ? 1 : arguments.engines;
  fleet.workers = row.workers == "own" ? engine::RankWorkers::kOwn : engine::RankWorkers::kShared;
  fleet.threads = arguments.model.threads;
  fleet.pin = !arguments.model.no_pin;
  if (row.pace != "apart") {
    auto pace = cluster::parse_gang_pace(row.pace);
    fleet.pace = *pace;
  }
  fleet.engine.isa = loaded.isa;
  fleet.engine.scheduler.max_num_batched_tokens = arguments.max_num_batched_tokens;
  fleet.engine.scheduler.former_options.drain_steps = arguments.drain_steps;
  fleet.engine.scheduler.prefix_caching = false;
  return fleet;
}

std::vector<Row> rows_of(const Arguments& arguments) {
  std::vector<Row> rows;
  for (const std::string& mix : arguments.mixes) {
    for (const std::string& workers : arguments.workers) {
      for (const std::string& pace : arguments.paces)
        rows.push_back({.mix = mix, .workers = workers, .pace = pace, .results = {}});
    }
  }
  return rows;
}

nlohmann::json to_json(const Row& row) {
  return {
      {"mix", row.mix},
      {"rank_workers", row.workers},
      {"pace", row.pace},
      {"tokens_per_second",
       apps::to_json(spread_of(row.values(&ParallelResult::tokens_per_second)))},
      {"mean_ttft_ms", apps::to_json(spread_of(row.values(&ParallelResult::mean_ttft_ms)))},
      {"mean_tpot_ms", apps::to_json(spread_of(row.values(&ParallelResult::mean_tpot_ms)))},
      {"gang_share", apps::to_json(spread_of(row.values(&ParallelResult::gang_share)))},
      {"rows_per_expert", apps::to_json(spread_of(row.values(&ParallelResult::rows_per_expert)))}};
}

void print(const std::vector<Row>& rows) {
  fmt::print("{:<10} {:<7} {:<10} {:>9} {:>11} {:>11} {:>6} {:>12}\n", "mix", "workers", "pace",
             "tok/s", "TTFT ms", "TPOT ms", "gang", "rows/expert");
  for (const Row& row : rows) {
    const auto median = [&](double ParallelResult::*field) {
      return spread_of(row.values(field)).median;
    };
    fmt::print("{:<10} {:<7} {:<10} {:>9.1f} {:>11.2f} {:>11.3f} {:>5.0f}% {:>12.2f}\n", row.mix,
               row.workers, row.pace, median(&ParallelResult::tokens_per_second),
               median(&ParallelResult::mean_ttft_ms), median(&ParallelResult::mean_tpot_ms),
               100 * median(&ParallelResult::gang_share), median(&ParallelResult::rows_per_expert));
  }
}

Result<void> bench_parallel(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.model));
  std::vector<Row> rows = rows_of(arguments);
  Progress progress(
      "measuring", "runs",
      static_cast<std::uint64_t>(rows.size()) * static_cast<std::uint64_t>(arguments.repetitions));
  std::uint64_t done = 0;
  // In turns, so that what else the machine does falls on all alike.
  for (int repetition = 0; repetition < arguments.repetitions; ++repetition) {
    for (Row& row : rows) {
      ParallelRunOptions options = arguments.run;
      const auto mix =
          std::find(std::begin(kParallelMixNames), std::end(kParallelMixNames), row.mix);
      options.mix = static_cast<ParallelMix>(mix - std::begin(kParallelMixNames));
      GIMBAL_ASSIGN_OR_RETURN(row.results.emplace_back(),
                              run_parallel(loaded, fleet_options(arguments, loaded, row), options));
      progress.update(++done);
    }
  }
  progress.finish();
  print(rows);
  if (arguments.json_path.empty()) return {};
  nlohmann::json all = nlohmann::json::array();
  for (const Row& row : rows)
    all.push_back(to_json(row));
  std::ofstream file(arguments.json_path);
  file << nlohmann::json{{"engines", arguments.engines},
                         {"repetitions", arguments.repetitions},
                         {"rows", std::move(all)}}
              .dump(2)
       << '\n';
  file.flush();
  if (!file) return io_error("--json " + arguments.json_path, errno);
  return {};
}

}  // namespace

void add_bench_parallel(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand(
      "parallel", "engines that share experts, at each pace, against engines apart");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model.model_dir, "a Hugging Face checkpoint folder")
      ->required();
  command
      ->add_option("--data-parallel-size", arguments->engines,
                   "engines; of one, which shares nothing, all paces are apart")
      ->check(number_range(1, 64))
      ->capture_default_str();
  command->add_option("--mix", arguments->mixes, "decode, uneven, alternate")
      ->delimiter(',')
      ->check(CLI::IsMember({"decode", "uneven", "alternate"}))
      ->capture_default_str();
  command->add_option("--expert-pace", arguments->paces, "gang, lockstep, immediate, apart")
      ->delimiter(',')
      ->check(CLI::IsMember({"gang", "lockstep", "immediate", "apart"}))
      ->capture_default_str();
  command->add_option("--rank-workers", arguments->workers, "own, shared")
      ->delimiter(',')
      ->check(CLI::IsMember({"own", "shared"}))
      ->capture_default_str();
  const auto count = [&](const char* name, int& value, const char* what) {
    command->add_option(name, value, what)->check(above_zero())->capture_default_str();
  };
  count("--decodes", arguments->run.decodes, "decodes of an engine at once");
  count("--decode-tokens", arguments->run.decode_tokens, "tokens that each generates");
  count("--long-prompts", arguments->run.long_prompts, "long prompts, of all engines together");
  count("--long-prompt", arguments->run.long_prompt, "tokens of each");
  count("--max-num-batched-tokens", arguments->max_num_batched_tokens, "rows of a step");
  count("--repetitions", arguments->repetitions, "runs to take medians of");
  command->add_option("--drain-steps", arguments->drain_steps, "k of the gimbal batch former")
      ->check(above_zero())
      ->capture_default_str();
  command->add_option("--json", arguments->json_path, "write the results to this file too");
  arguments->model.add_to(*command, false);
  command->callback([arguments, &status] {
    const auto result = bench_parallel(*arguments);
    if (!result.ok()) status = report_failure("bench parallel", result.error());
  });
}

}  // namespace gimbal::apps
