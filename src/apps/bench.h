#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `bench` with its own subcommands to the program. `status` receives the exit code.
void add_bench(CLI::App& program, int& status);

}  // namespace gimbal::apps
