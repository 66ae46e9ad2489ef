#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "apps/bench.h"
#include "apps/config_file.h"
#include "apps/generate.h"
#include "apps/inspect.h"
#include "apps/make_model.h"
#include "apps/report_command.h"
#include "apps/serve.h"
#include "apps/simulate.h"
#include "apps/workload_command.h"

namespace {

constexpr const char* kAbout =
    "Serves Mixture-of-Experts language models, with every scheduling decision made from one "
    "shared\n"
    "picture of pressure.";

int run(int argc, char** argv) {
  CLI::App program(kAbout, "gimbal");
  program.set_version_flag("--version", "gimbal " GIMBAL_VERSION);
  program.require_subcommand(1);
  int status = 0;
  gimbal::apps::add_serve(program, status);
  gimbal::apps::add_generate(program, status);
  gimbal::apps::add_make_model(program, status);
  gimbal::apps::add_bench(program, status);
  gimbal::apps::add_inspect(program, status);
  gimbal::apps::add_workload(program, status);
  gimbal::apps::add_report(program, status);
  gimbal::apps::add_simulate(program, status);
  try {
    auto arguments =
        gimbal::apps::expand_config_file(program, std::vector<std::string>(argv + 1, argv + argc));
    if (!arguments.ok()) {
      std::fprintf(stderr, "gimbal: %s\n", arguments.error().message.c_str());
      return 1;
    }
    std::reverse(arguments->begin(), arguments->end());  // as CLI11 takes them
    program.parse(std::move(*arguments));
  } catch (const CLI::ParseError& error) {
    return program.exit(error);
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gimbal: %s\n", error.what());
    return 1;
  }
}
