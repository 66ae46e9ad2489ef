#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// `gimbal bench simulate`: how fast the simulator is. `status` becomes the exit code.
void add_bench_simulate(CLI::App& bench, int& status);

}  // namespace gimbal::apps
