#pragma once

namespace CLI {
class App;
}

namespace gimbal::apps {

// Adds the subcommand `generate MODEL_DIR PROMPT`: one prompt, its text streamed to standard
// output. Parsing it runs it and sets `status` to the exit code. `status` must outlive the parsing.
void add_generate(CLI::App& program, int& status);

}  // namespace gimbal::apps
