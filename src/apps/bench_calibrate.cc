#include "apps/bench_calibrate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/calibration_run.h"
#include "apps/cpu_watch.h"
#include "apps/machine_limits.h"
#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "base/json.h"
#include "cost/cost_model.h"
#include "cost/profile_fit.h"
#include "report/table.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  ModelFlags model;
  CalibrationOptions run;
  int max_num_batched_tokens = 2048;
  std::vector<std::string> records;
  std::string output = "profile.json";
  std::string name = "calibrated";
};

// What no step says: memory, and what lies between ranks, which in one process is memory too.
cost::HardwareProfile unmeasured(const Arguments& arguments) {
  cost::HardwareProfile profile;
  profile.name = arguments.name;
  profile.description = processor_name();
  profile.memory_gb = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<double>(::sysconf(_SC_PAGE_SIZE)) * 1e-9;
  const cost::Roofline guess{
      .stream_gb_per_s = 10, .compute_tflop_per_s = 0.3, .overlap_loss = 0.5};
  profile.attention = {.layer_us = 20,
                       .decode_us = 1,
                       .projections = guess,
                       .kv_gb_per_s = 5,
                       .prefill_tflop_per_s = 0.1};
  profile.experts = {.layer_us = 20, .products = guess};
  profile.step.head = guess;
  profile.same_node = {.latency_us = 20, .gb_per_s = 10};
  profile.other_node = {.latency_us = 50, .gb_per_s = 1.25};
  profile.move_gb_per_s_same_node = 5;
  profile.move_gb_per_s_other_node = 1.25;
  profile.assumed = {
      "Memory is the machine's. Between ranks, which share it: 20 us and 10 GB/s, weights moved at "
      "5 "
      "GB/s; between nodes 50 us and 1.25 GB/s. None of that was measured.",
      "Projections and head read their weights at the experts' rate.",
      "One engine had the machine. Engines that share its CPUs slow each other down, which a "
      "profile "
      "does not say: calibrate from the records of such a run (--record)."};
  return profile;
}

// Kinds of steps, in the order of the table.
std::string kind_of(const cost::RankWork& work) {
  const auto between = [](int value, std::initializer_list<int> edges) {
    int low = 1;
    for (const int edge : edges) {
      if (value <= edge) return fmt::format("{}..{}", low, edge);
      low = edge + 1;
    }
    return fmt::format("{}..", low);
  };
  if (work.decodes > 0 && work.prefill_rows > 0) return "3 prefill beside decodes";
  if (work.decodes > 0) return "2 decodes, " + between(work.decodes, {1, 4, 16});
  return "1 prefill, rows " + between(work.prefill_rows, {64, 256, 1024});
}

std::string error_table(const cost::CostModel& model, std::span<const cost::MeasuredStep> steps) {
  struct Sum {
    int count = 0;
    double measured = 0;
    double predicted = 0;
  };
  std::map<std::string, Sum> sums;
  for (const cost::MeasuredStep& step : steps) {
    for (const std::string& kind : {kind_of(step.work), std::string("4 all")}) {
      Sum& sum = sums[kind];
      ++sum.count;
      sum.measured += step.whole_ms - step.wait_ms;
      sum.predicted += cost::predicted_ms(model, step);
    }
  }
  report::Table table({"steps", "count", "measured ms", "predicted ms", "difference"});
  for (const auto& [kind, sum] : sums) {
    table.add_row({report::Cell::of_text(kind.substr(2)), report::Cell::of_count(sum.count),
                   report::Cell::of_number(sum.measured / sum.count, 3),
                   report::Cell::of_number(sum.predicted / sum.count, 3),
                   report::Cell::of_change(sum.predicted / sum.measured)});
  }
  return table.to_markdown();
}

// The step logs of all ranks.
Result<std::vector<std::vector<cost::MeasuredStep>>> measure(const Arguments& arguments) {
  std::vector<std::vector<cost::MeasuredStep>> ranks;
  for (const std::string& record : arguments.records) {
    GIMBAL_ASSIGN_OR_RETURN(ranks.emplace_back(), cost::read_step_log(record));
  }
  if (!arguments.records.empty()) return ranks;
  GIMBAL_ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.model));
  engine::ServingEngineOptions engine;
  engine.isa = loaded.isa;
  engine.pin = !arguments.model.no_pin;
  engine.scheduler.prefix_caching = false;
  engine.scheduler.max_num_batched_tokens = arguments.max_num_batched_tokens;
  engine.scheduler.max_model_len = static_cast<int>(arguments.model.max_model_len);
  GIMBAL_ASSIGN_OR_RETURN(ranks.emplace_back(), run_calibration(loaded, engine, arguments.run));
  return ranks;
}

Result<void> calibrate(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const cost::ModelShape shape,
                          cost::find_model(arguments.model.model_dir));
  const CpuWatch watch;
  GIMBAL_ASSIGN_OR_RETURN(const auto ranks, measure(arguments));
  const std::string origin = arguments.records.empty()
                                 ? "a mix of prompts and decodes on one engine"
                                 : fmt::format("{}", fmt::join(arguments.records, ", "));
  const cost::HardwareProfile start = unmeasured(arguments);
  GIMBAL_ASSIGN_OR_RETURN(const cost::HardwareProfile profile,
                          ranks.size() == 1 ? cost::fit_steps(shape, ranks.front(), start, origin)
                                            : cost::fit_group_steps(shape, ranks, start, origin));
  GIMBAL_ASSIGN_OR_RETURN(const cost::CostModel model, cost::CostModel::make(shape, profile));
  std::ofstream file(arguments.output);
  file << cost::profile_to_json(profile).dump(2) << '\n';
  file.flush();
  if (!file) return io_error("--output " + arguments.output, errno);
  fmt::print("{}\n", cost::describe(profile));
  if (ranks.size() == 1) fmt::print("{}", error_table(model, ranks.front()));
  if (arguments.records.empty() && watch.disturbed())
    fmt::print("other programs used the CPUs meanwhile\n");
  fmt::print("written to {}\n", arguments.output);
  return {};
}

Result<void> show_profile(const std::string& name, bool as_json, bool as_schema) {
  if (as_schema) {
    fmt::print("{}\n", cost::profile_schema().dump(2));
    return {};
  }
  if (name.empty()) {
    for (const std::string_view shipped : cost::shipped_profiles()) {
      GIMBAL_ASSIGN_OR_RETURN(const auto profile, cost::find_profile(std::string(shipped)));
      fmt::print("{:<22} {}\n", shipped, profile.description);
    }
    return {};
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto profile, cost::find_profile(name));
  fmt::print("{}",
             as_json ? cost::profile_to_json(profile).dump(2) + "\n" : cost::describe(profile));
  return {};
}

}  // namespace

void add_bench_calibrate(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand(
      "calibrate", "write a hardware profile of this machine from an engine's step log");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model.model_dir, "a Hugging Face checkpoint folder")
      ->required();
  command->add_option("--output", arguments->output, "the profile")->capture_default_str();
  command->add_option("--name", arguments->name, "of the profile")->capture_default_str();
  command->add_option("--record", arguments->records,
                      "fit to this file of serve --record, or to those of all engines of one "
                      "group, and run nothing");
  command->add_option("--longest-prompt", arguments->run.longest_prompt, "tokens")
      ->check(number_range(64, 1 << 20))
      ->capture_default_str();
  command->add_option("--most-decodes", arguments->run.most_decodes, "at once")
      ->check(number_range(4, 4096))
      ->capture_default_str();
  command->add_option("--rounds", arguments->run.rounds, "of the whole mix")
      ->check(number_range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--max-num-batched-tokens", arguments->max_num_batched_tokens, "rows of a step")
      ->check(number_range(1, 1 << 20))
      ->capture_default_str();
  arguments->model.add_to(*command, false);
  command->callback([arguments, &status] {
    const auto result = calibrate(*arguments);
    if (!result.ok()) status = report_failure("bench calibrate", result.error());
  });
}

void add_bench_profile(CLI::App& bench, int& status) {
  auto* command =
      bench.add_subcommand("profile", "show a hardware profile, or list those that are shipped");
  const auto name = std::make_shared<std::string>();
  const auto as_json = std::make_shared<bool>(false);
  const auto as_schema = std::make_shared<bool>(false);
  command->add_option("profile", *name, "a shipped name or a file");
  command->add_flag("--json", *as_json, "as it is written in a file");
  command->add_flag("--schema", *as_schema, "the JSON Schema of profiles instead");
  command->callback([name, as_json, as_schema, &status] {
    const auto result = show_profile(*name, *as_json, *as_schema);
    if (!result.ok()) status = report_failure("bench profile", result.error());
  });
}

}  // namespace gimbal::apps
