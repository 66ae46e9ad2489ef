#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `reproduce` to `gimbal bench`: a paper's claims, in the simulator or on real servers, one
// command a paper.
void add_bench_reproduce(CLI::App& bench, int& status);

}  // namespace gimbal::apps
