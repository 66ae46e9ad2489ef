#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds the subcommand `make-model OUT_DIR` to `program`. Parsing it runs it: the model is written,
// a summary printed, and `status` set to the exit code. `status` must outlive the parsing.
void add_make_model(CLI::App& program, int& status);

}  // namespace gimbal::apps
