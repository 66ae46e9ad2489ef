#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `parallel` to `gimbal bench`: engines that share experts at each pace, and engines that do
// not share them, on mixes of decodes and prompts, in turns within one run.
void add_bench_parallel(CLI::App& bench, int& status);

}  // namespace gimbal::apps
