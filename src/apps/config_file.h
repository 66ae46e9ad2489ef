#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// Expands `SUBCOMMAND … --config FILE …` of a command line: options of the file (NAME = VALUE a
// line, the subcommand's long option names, # for comments) are put in front of the subcommand's
// own arguments, but for those that the command line gives itself. Lines without --config come back
// as they are. Errors: a file that cannot be read, and options that the subcommand does not have;
// they name file and option. `program` has all its subcommands.
[[nodiscard]] Result<std::vector<std::string>> expand_config_file(
    const CLI::App& program, std::vector<std::string> arguments);

}  // namespace gimbal::apps
