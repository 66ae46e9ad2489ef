#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `engine` to `gimbal bench`: prefill and decode of one model on the executor alone, against
// what this machine reads and multiplies at most, measured in the same run in turns with the work.
void add_bench_engine(CLI::App& bench, int& status);

}  // namespace gimbal::apps
