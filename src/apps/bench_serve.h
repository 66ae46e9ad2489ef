#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `bench serve` to `bench`. `status` receives the exit code.
void add_bench_serve(CLI::App& bench, int& status);

}  // namespace gimbal::apps
