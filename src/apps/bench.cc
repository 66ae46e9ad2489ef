#include "apps/bench.h"

#include <CLI/CLI.hpp>

#include "apps/bench_calibrate.h"
#include "apps/bench_compare.h"
#include "apps/bench_engine.h"
#include "apps/bench_load.h"
#include "apps/bench_parallel.h"
#include "apps/bench_reproduce.h"
#include "apps/bench_serve.h"
#include "apps/bench_simulate.h"

namespace gimbal::apps {

void add_bench(CLI::App& program, int& status) {
  auto* command =
      program.add_subcommand("bench", "measure engines against the machine's limits, and servers");
  command->require_subcommand(1);
  add_bench_engine(*command, status);
  add_bench_load(*command, status);
  add_bench_parallel(*command, status);
  add_bench_serve(*command, status);
  add_bench_simulate(*command, status);
  add_bench_compare(*command, status);
  add_bench_calibrate(*command, status);
  add_bench_profile(*command, status);
  add_bench_reproduce(*command, status);
}

}  // namespace gimbal::apps
