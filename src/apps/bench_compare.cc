#include "apps/bench_compare.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "report/comparison.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string base;
  std::vector<std::string> changed;
  std::vector<std::string> names;
  std::vector<std::string> metrics;
  std::string json_path;
  report::BootstrapOptions bootstrap;
};

// A file, files with commas between, or a folder: all .json files in it.
Result<std::vector<std::string>> files_of(const std::string& given) {
  std::vector<std::string> files;
  std::error_code error;
  if (fs::is_directory(given, error)) {
    for (const auto& entry : fs::directory_iterator(given, error)) {
      if (entry.path().extension() == ".json") files.push_back(entry.path().string());
    }
    if (files.empty()) {
      return Error{ErrorCode::kNotFound, given + " has no .json file"};
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  for (std::size_t at = 0; at <= given.size();) {
    const std::size_t comma = std::min(given.find(',', at), given.size());
    files.push_back(given.substr(at, comma - at));
    at = comma + 1;
  }
  return files;
}

Result<report::ComparedSide> read_side(const std::string& given, std::string name) {
  report::ComparedSide side{.name = std::move(name), .results = {}};
  GIMBAL_ASSIGN_OR_RETURN(const std::vector<std::string> files, files_of(given));
  for (const std::string& file : files) {
    GIMBAL_ASSIGN_OR_RETURN(std::vector<report::SavedResult> results,
                            report::read_saved_results(file));
    std::move(results.begin(), results.end(), std::back_inserter(side.results));
  }
  if (side.name.empty()) {
    const auto label = side.results.front().fields.find("label");
    const bool labelled = label != side.results.front().fields.end() && label->is_string();
    if (labelled) side.name = label->get<std::string>();
  }
  if (side.name.empty()) side.name = fs::path(given).filename().string();
  return side;
}

void warn_of_invalid_runs(const report::ComparedSide& side) {
  for (const report::SavedResult& result : side.results) {
    const std::string reason = result.invalid_reason();
    if (!reason.empty()) fmt::print(stderr, "{}: an invalid run: {}\n", result.path, reason);
  }
}

// Numbers sides whose name another one has too.
void tell_apart(std::vector<report::ComparedSide>& sides) {
  std::map<std::string, int> times;
  for (const report::ComparedSide& side : sides)
    ++times[side.name];
  int number = 0;
  for (report::ComparedSide& side : sides) {
    ++number;
    if (times[side.name] > 1) side.name += fmt::format(" ({})", number);
  }
}

Result<std::vector<report::ComparedSide>> read_sides(const Arguments& arguments) {
  std::vector<std::string> given{arguments.base};
  given.insert(given.end(), arguments.changed.begin(), arguments.changed.end());
  if (!arguments.names.empty() && arguments.names.size() != given.size()) {
    return invalid_argument(
        fmt::format("--names must name {} sides, names {}", given.size(), arguments.names.size()),
        "names");
  }
  std::vector<report::ComparedSide> sides;
  for (std::size_t i = 0; i < given.size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(
        report::ComparedSide side,
        read_side(given[i], arguments.names.empty() ? std::string() : arguments.names[i]));
    warn_of_invalid_runs(side);
    sides.push_back(std::move(side));
  }
  tell_apart(sides);
  return sides;
}

Result<void> bench_compare(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const std::vector<report::ComparedSide> sides, read_sides(arguments));
  const report::ComparisonOptions options{.fields = arguments.metrics,
                                          .bootstrap = arguments.bootstrap};
  const std::span<const report::ComparedSide> changed = std::span(sides).subspan(1);
  const auto checked = check_fields(sides.front(), changed, options);
  if (!checked.ok()) return checked.error().within("--metrics");
  const report::Table table = changed.size() == 1
                                  ? report::compare(sides.front(), changed.front(), options)
                                  : report::compare_all(sides.front(), changed, options);
  fmt::print("{}\n", table.to_markdown());
  nlohmann::json described = nlohmann::json::array();
  for (const report::ComparedSide& side : changed) {
    const std::string meaning = describe(comparison_kind(sides.front(), side));
    fmt::print("{} against {}, {} and {} runs. {}\n", side.name, sides.front().name,
               side.results.size(), sides.front().results.size(), meaning);
    const std::vector<std::string> remarks = notes(sides.front(), side, options);
    for (const std::string& remark : remarks)
      fmt::print("{}\n", remark);
    described.push_back({{"base", sides.front().name},
                         {"changed", side.name},
                         {"base_runs", sides.front().results.size()},
                         {"changed_runs", side.results.size()},
                         {"meaning", meaning},
                         {"notes", remarks}});
  }
  if (arguments.json_path.empty()) return {};
  std::ofstream file(arguments.json_path);
  file << nlohmann::json{{"comparisons", described},
                         {"confidence", arguments.bootstrap.confidence},
                         {"rows", table.to_json()}}
              .dump(2)
       << '\n';
  file.flush();
  if (!file) return io_error("--json " + arguments.json_path, errno);
  return {};
}

}  // namespace

void add_bench_compare(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand(
      "compare", "saved results, or sets of them, side by side with bootstrap intervals");
  const auto arguments = std::make_shared<Arguments>();
  const char* const kWhat = "a result, results with commas between, or a folder of them";
  command->add_option("A", arguments->base, kWhat)->required();
  command->add_option("B", arguments->changed, "the same; several are each held against A")
      ->required();
  command->add_option("--names", arguments->names, "names of the sides; default: labels or files")
      ->delimiter(',');
  command
      ->add_option("--metrics", arguments->metrics,
                   "fields to compare, as mean_ttft_ms or classes.LS.p99_e2el_ms; default: "
                   "throughputs and mean, median and p99 latencies")
      ->delimiter(',');
  command->add_option("--json", arguments->json_path, "write the table to this file too");
  command->add_option("--confidence", arguments->bootstrap.confidence, "of the intervals")
      ->check(number_range(0.5, 0.999))
      ->capture_default_str();
  command->add_option("--resamples", arguments->bootstrap.resamples, "of the bootstrap")
      ->check(number_range(10, 1'000'000))
      ->capture_default_str();
  command->add_option("--seed", arguments->bootstrap.seed, "of the bootstrap")
      ->capture_default_str();
  command->callback([arguments, &status] {
    const auto result = bench_compare(*arguments);
    if (!result.ok()) status = report_failure("bench compare", result.error());
  });
}

}  // namespace gimbal::apps
