// `gimbal make-model` alone.

#include <CLI/CLI.hpp>

#include "apps/make_model.h"

int main(int argc, char** argv) {
  CLI::App program("makes models for tests", "gimbal");
  program.require_subcommand(1);
  int status = 0;
  gimbal::apps::add_make_model(program, status);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error);
  }
  return status;
}
