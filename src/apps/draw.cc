#include "apps/draw.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <utility>

extern char** environ;

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

constexpr int kNoMatplotlib = 3;  // exit code
// What all scripts begin with.
constexpr const char* kPreamble = R"python(
import json
import os
import sys

try:
    import matplotlib
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)
matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "gimbal"  # the same picture is the same file
import matplotlib.pyplot as plt
)python";

// build/report-env beside build/release/gimbal.
std::string default_environment() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "report-env").string();
}

// Runs the script with `input` on its standard input; returns its exit code, 127 when Python is not
// there.
Result<int> run_script(const char* text, const std::string& python, const std::string& input) {
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) return io_error("pipe", errno);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, pipe[0], STDIN_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, pipe[0]);
  ::posix_spawn_file_actions_addclose(&actions, pipe[1]);
  std::string program = python;
  std::string option = "-c";
  std::string script = std::string(kPreamble) + text;
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

}  // namespace

Result<void> draw(const char* script, nlohmann::json task, const DrawOptions& options) {
  const std::string environment =
      options.environment.empty() ? default_environment() : options.environment;
  task["out"] = options.out;
  task["formats"] = options.formats;
  GIMBAL_ASSIGN_OR_RETURN(const int code,
                          run_script(script, environment + "/bin/python3", task.dump()));
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

}  // namespace gimbal::apps
