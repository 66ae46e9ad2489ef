#include "apps/report_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "apps/draw.h"
#include "apps/model_flags.h"
#include "apps/plot_script.h"
#include "apps/reproduction_plot_script.h"
#include "apps/reproduction_report.h"
#include "base/json.h"
#include "report/serve_result_json.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostBytes = std::size_t{4} << 30;  // of a result with details

struct Arguments {
  std::vector<std::string> files;
  DrawOptions draw;
};

// Labels, else names of files; numbered where two are the same.
std::vector<std::string> names_of(const std::vector<report::SavedResult>& results) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const report::SavedResult& result : results) {
    const auto label = result.fields.find("label");
    std::string name = label != result.fields.end() && label->is_string()
                           ? label->get<std::string>()
                           : std::string();
    if (name.empty()) name = fs::path(result.path).stem().string();
    const std::string wanted = name;
    for (int number = 2; !taken.insert(name).second; ++number) {
      name = fmt::format("{} ({})", wanted, number);
    }
    names.push_back(std::move(name));
  }
  return names;
}

Result<void> report_command(const Arguments& arguments) {
  std::vector<report::SavedResult> results;
  std::vector<std::string> paths;
  std::vector<std::string> reproductions;
  for (const std::string& file : arguments.files) {
    GIMBAL_ASSIGN_OR_RETURN(Json document, read_json_file(file, kMostBytes));
    if (is_reproduction(document)) {
      reproductions.push_back(file);
      continue;
    }
    GIMBAL_ASSIGN_OR_RETURN(report::SavedResult result,
                            report::parse_saved_result(std::move(document), file));
    if (result.records.empty() || !result.fields.contains("start_times")) {
      return invalid_argument(file + ": has no details of requests: save it with --save-detailed");
    }
    results.push_back(std::move(result));
    paths.push_back(file);
  }
  if (!reproductions.empty())
    GIMBAL_RETURN_IF_ERROR(
        draw(kReproductionPlotScript, {{"files", reproductions}}, arguments.draw));
  if (results.empty()) return {};
  return draw(kPlotScript, {{"files", paths}, {"names", names_of(results)}}, arguments.draw);
}

}  // namespace

void add_report(CLI::App& program, int& status) {
  auto* command = program.add_subcommand(
      "report", "draw results that `bench serve --save-detailed` or `bench reproduce` saved");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("FILE", arguments->files, "saved results")->required();
  command->add_option("--out", arguments->draw.out, "folder of the pictures")
      ->capture_default_str();
  command->add_option("--formats", arguments->draw.formats, "png, svg, pdf")
      ->delimiter(',')
      ->check(CLI::IsMember({"png", "svg", "pdf"}))
      ->capture_default_str();
  command->add_option("--report-env", arguments->draw.environment, kReportEnvHelp);
  command->callback([arguments, &status] {
    const auto result = report_command(*arguments);
    if (!result.ok()) status = report_failure("report", result.error());
  });
}

}  // namespace gimbal::apps
