#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// `gimbal simulate`: the production scheduler on virtual time (src/sim). `status` becomes the exit
// code.
void add_simulate(CLI::App& program, int& status);

}  // namespace gimbal::apps
