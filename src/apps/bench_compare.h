#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `bench compare` to `bench`. `status` receives the exit code.
void add_bench_compare(CLI::App& bench, int& status);

}  // namespace gimbal::apps
