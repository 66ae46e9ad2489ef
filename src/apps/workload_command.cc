#include "apps/workload_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/model_flags.h"
#include "apps/workload_flags.h"
#include "report/sample.h"
#include "report/table.h"
#include "workload/statistics.h"
#include "workload/trace_writer.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  WorkloadFlags workload;
  std::string out;
  bool json = false;
};

using report::Cell;
using report::Sample;

std::vector<Cell> length_row(const char* name, const std::vector<double>& lengths) {
  const Sample sample(lengths);
  return {Cell::of_text(name),
          Cell::of_number(sample.mean(), 1),
          Cell::of_number(sample.min(), 0),
          Cell::of_number(sample.percentile(50), 0),
          Cell::of_number(sample.percentile(90), 0),
          Cell::of_number(sample.percentile(99), 0),
          Cell::of_number(sample.max(), 0),
          Cell::of_number(sample.mean() * static_cast<double>(sample.size()), 0)};
}

report::Table length_table(const workload::WorkloadStatistics& statistics) {
  report::Table table({"tokens", "mean", "min", "p50", "p90", "p99", "max", "sum"});
  table.add_row(length_row("prompt", statistics.prompt_lengths));
  table.add_row(length_row("output", statistics.output_lengths));
  return table;
}

double shared_share(const workload::WorkloadStatistics& statistics) {
  return statistics.prompt_tokens == 0 ? 0.0
                                       : static_cast<double>(statistics.shared_prompt_tokens) /
                                             static_cast<double>(statistics.prompt_tokens);
}

void print_text(const workload::Workload& requests,
                const workload::WorkloadStatistics& statistics) {
  fmt::print("{}\n{} requests", requests.name, statistics.requests);
  if (statistics.seconds > 0.0) {
    fmt::print(" in {:.1f} s, {:.3f} a second, gaps with a coefficient of variation of {:.2f}",
               statistics.seconds, statistics.rate, statistics.gap_variation);
  } else {
    fmt::print(", all at once");
  }
  fmt::print("\n{}", length_table(statistics).to_markdown());
  if (requests.estimated_lengths) fmt::print("lengths are estimates from bytes of text\n");
  if (requests.skipped_rows > 0) {
    fmt::print("{} rows without prompt or output left out\n", requests.skipped_rows);
  }
  fmt::print("prompt tokens that an earlier prompt began with: {} ({:.1f} %)\n",
             statistics.shared_prompt_tokens, shared_share(statistics) * 100.0);
  if (statistics.users > 0) fmt::print("{} users\n", statistics.users);
  for (const auto& [name, count] : statistics.classes) {
    fmt::print("class {}: {} requests ({:.1f} %)\n", name, count,
               static_cast<double>(count) / static_cast<double>(statistics.requests) * 100.0);
  }
  for (const auto& [topic, tokens] : statistics.topics) {
    fmt::print("topic {}: {} prompt tokens\n", topic, tokens);
  }
}

nlohmann::json to_json(const workload::Workload& requests,
                       const workload::WorkloadStatistics& statistics) {
  nlohmann::json topics = nlohmann::json::object();
  for (const auto& [topic, tokens] : statistics.topics)
    topics[std::to_string(topic)] = tokens;
  return {{"name", requests.name},
          {"requests", statistics.requests},
          {"seconds", statistics.seconds},
          {"rate", statistics.rate},
          {"gap_variation", statistics.gap_variation},
          {"prompt_tokens", statistics.prompt_tokens},
          {"output_tokens", statistics.output_tokens},
          {"shared_prompt_tokens", statistics.shared_prompt_tokens},
          {"skipped_rows", requests.skipped_rows},
          {"estimated_lengths", requests.estimated_lengths},
          {"users", statistics.users},
          {"classes", statistics.classes},
          {"topics", topics},
          {"lengths", length_table(statistics).to_json()}};
}

Result<void> run(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, make_workload(arguments.workload));
  const workload::WorkloadStatistics statistics = workload::statistics_of(requests);
  if (arguments.json) {
    fmt::print("{}\n", to_json(requests, statistics).dump(2));
  } else {
    print_text(requests, statistics);
  }
  if (arguments.out.empty()) return {};
  return workload::write_jsonl_file(requests, arguments.out);
}

}  // namespace

void add_workload(CLI::App& program, int& status) {
  auto* command = program.add_subcommand(
      "workload", "read or generate requests: show what they are, write them as JSON lines");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("trace", arguments->workload.dataset_path, "the same as --dataset-path");
  arguments->workload.add_to(*command);
  command->add_option("--out", arguments->out, "write the requests to this file");
  command->add_flag("--json", arguments->json, "print one JSON object");
  command->callback([arguments, &status] {
    const auto result = run(*arguments);
    if (!result.ok()) status = report_failure("workload", result.error());
  });
}

}  // namespace gimbal::apps
