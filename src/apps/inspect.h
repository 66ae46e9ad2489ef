#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds the subcommand `inspect MODEL_DIR`: architecture, tensors, bytes by part, memory needed.
// Parsing it runs it and sets `status` to the exit code. `status` must outlive the parsing.
void add_inspect(CLI::App& program, int& status);

}  // namespace gimbal::apps
