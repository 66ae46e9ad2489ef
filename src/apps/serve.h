#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds the subcommand `serve [MODEL_DIR]`: the OpenAI-compatible server, until SIGTERM or SIGINT.
// Parsing it runs it and sets `status` to the exit code. `status` must outlive the parsing.
void add_serve(CLI::App& program, int& status);

}  // namespace gimbal::apps
