#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds to `gimbal bench`: `calibrate`, which writes a hardware profile of this machine from an
// engine's step log, and `profile`, which shows profiles.
void add_bench_calibrate(CLI::App& bench, int& status);
void add_bench_profile(CLI::App& bench, int& status);

}  // namespace gimbal::apps
