#include "apps/config_file.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <optional>

namespace gimbal::apps {
namespace {

// Takes `--config FILE` or `--config=FILE` out of the arguments.
Result<std::optional<std::string>> take_config(std::vector<std::string>& arguments) {
  for (auto at = arguments.begin(); at != arguments.end(); ++at) {
    if (at->starts_with("--config=")) {
      const std::string path = at->substr(9);
      arguments.erase(at);
      return std::optional(path);
    }
    if (*at == "--config") {
      if (at + 1 == arguments.end()) return invalid_argument("--config: 1 required FILE missing");
      const std::string path = *(at + 1);
      arguments.erase(at, at + 2);
      return std::optional(path);
    }
  }
  return std::optional<std::string>{};
}

bool given(const std::vector<std::string>& arguments, const std::string& flag) {
  return std::any_of(arguments.begin(), arguments.end(), [&flag](const std::string& argument) {
    return argument == flag || argument.starts_with(flag + "=");
  });
}

}  // namespace

Result<std::vector<std::string>> expand_config_file(const CLI::App& program,
                                                    std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  const auto commands = program.get_subcommands(
      [&](const CLI::App* each) { return each->get_name() == arguments.front(); });
  if (commands.empty()) return arguments;
  const CLI::App* const command = commands.front();
  if (command->get_option_no_throw("--config") == nullptr) return arguments;
  std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  GIMBAL_ASSIGN_OR_RETURN(const auto path, take_config(rest));
  if (!path) return arguments;
  std::ifstream file(*path);
  if (!file) return io_error("--config " + *path, errno);

  std::vector<std::string> expanded{arguments.front()};
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigINI().from_config(file);
  } catch (const CLI::Error& error) {
    return invalid_argument(fmt::format("--config {}: {}", *path, error.what()));
  }
  for (const CLI::ConfigItem& item : items) {
    std::string name = item.fullname();
    std::replace(name.begin(), name.end(), '_', '-');
    const std::string flag = "--" + name;
    const CLI::Option* option = command->get_option_no_throw(flag);
    if (option == nullptr || name == "config" || name == "help") {
      return invalid_argument(
          fmt::format("--config {}: gimbal {} has no option {}", *path, arguments.front(), name),
          name);
    }
    if (given(rest, flag)) continue;
    const bool is_flag = option->get_expected_min() == 0;
    if (is_flag) {
      expanded.push_back(flag + "=" + (item.inputs.empty() ? "true" : item.inputs.front()));
      continue;
    }
    for (const std::string& value : item.inputs)
      expanded.push_back(flag + "=" + value);
  }
  expanded.insert(expanded.end(), rest.begin(), rest.end());
  return expanded;
}

}  // namespace gimbal::apps
