#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `load` to `gimbal bench`: how fast a checkpoint is loaded and packed, against the same
// threads reading the same cached files into fresh memory, and how much memory that takes.
void add_bench_load(CLI::App& bench, int& status);

}  // namespace gimbal::apps
