#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds `report` to the program. `status` receives the exit code.
void add_report(CLI::App& program, int& status);

}  // namespace gimbal::apps
