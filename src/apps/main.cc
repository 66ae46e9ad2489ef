#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "apps/generate.h"
#include "apps/inspect.h"
#include "apps/make_model.h"
#include "apps/serve.h"

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
  gimbal::apps::add_inspect(program, status);
  try {
    program.parse(argc, argv);
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
