#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `workload` to the program. `status` receives the exit code.
void add_workload(CLI::App& program, int& status);

}  // namespace gimbal::apps
