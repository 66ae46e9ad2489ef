#include "apps/report_command.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/plot_script.h"
#include "report/serve_result_json.h"

extern char** environ;

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

constexpr int kNoMatplotlib = 3;  // exit code of the script

struct Arguments {
  std::vector<std::string> files;
  std::string out = "report";
  std::vector<std::string> formats{"png", "svg"};
  std::string environment;
};

// build/report-env beside build/release/gimbal.
std::string default_environment() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "report-env").string();
}

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

// Runs the script with `input` on its standard input; returns its exit code, 127 when Python is not
// there.
Result<int> run_script(const std::string& python, const std::string& input) {
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) return io_error("pipe", errno);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, pipe[0], STDIN_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, pipe[0]);
  ::posix_spawn_file_actions_addclose(&actions, pipe[1]);
  std::string program = python;
  std::string option = "-c";
  std::string script = kPlotScript;
  std::array<char*, 4> arguments{program.data(), option.data(), script.data(), nullptr};
  pid_t child = 0;
  const int failure =
      ::posix_spawn(&child, program.c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(pipe[0]);
  if (failure != 0) {
    ::close(pipe[1]);
    return 127;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a script that ends early says why itself
  for (std::size_t at = 0; at < input.size();) {
    const ssize_t count = ::write(pipe[1], input.data() + at, input.size() - at);
    if (count <= 0) break;
    at += static_cast<std::size_t>(count);
  }
  ::close(pipe[1]);
  int status = 0;
  if (::waitpid(child, &status, 0) < 0) return io_error("waitpid", errno);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

Result<void> report_command(const Arguments& arguments) {
  std::vector<report::SavedResult> results;
  for (const std::string& file : arguments.files) {
    GIMBAL_ASSIGN_OR_RETURN(report::SavedResult result, report::read_saved_result(file));
    if (result.records.empty() || !result.fields.contains("start_times")) {
      return invalid_argument(file + ": has no details of requests: save it with --save-detailed");
    }
    results.push_back(std::move(result));
  }
  const std::string environment =
      arguments.environment.empty() ? default_environment() : arguments.environment;
  const nlohmann::json task{{"files", arguments.files},
                            {"names", names_of(results)},
                            {"out", arguments.out},
                            {"formats", arguments.formats}};
  GIMBAL_ASSIGN_OR_RETURN(const int code, run_script(environment + "/bin/python3", task.dump()));
  if (code == 127 || code == kNoMatplotlib) {
    return Error{ErrorCode::kNotFound,
                 "plots need matplotlib, which is not in this environment (`make report-env` makes "
                 "build/report-env; --report-env names another): " +
                     environment};
  }
  if (code != 0) {
    return Error{ErrorCode::kInternal, fmt::format("drawing failed with exit code {}", code)};
  }
  return {};
}

}  // namespace

void add_report(CLI::App& program, int& status) {
  auto* command =
      program.add_subcommand("report", "draw results that `bench serve --save-detailed` saved");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("FILE", arguments->files, "saved results")->required();
  command->add_option("--out", arguments->out, "folder of the pictures")->capture_default_str();
  command->add_option("--formats", arguments->formats, "png, svg, pdf")
      ->delimiter(',')
      ->check(CLI::IsMember({"png", "svg", "pdf"}))
      ->capture_default_str();
  command->add_option("--report-env", arguments->environment,
                      "virtual environment with matplotlib; default: report-env beside the "
                      "program's folder");
  command->callback([arguments, &status] {
    const auto result = report_command(*arguments);
    if (!result.ok()) status = report_failure("report", result.error());
  });
}

}  // namespace gimbal::apps
