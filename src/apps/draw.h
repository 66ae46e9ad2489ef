#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"

namespace gimbal::apps {

struct DrawOptions {
  std::string out = "report";  // folder of the pictures
  std::vector<std::string> formats{"png", "svg"};
  std::string
      environment;  // virtual environment with matplotlib; empty: beside the program's folder
};

// What --report-env says in a command's help.
inline constexpr const char* kReportEnvHelp =
    "virtual environment with matplotlib; default: report-env beside the program's folder";

// Runs a Python script that reads one JSON object on standard input and draws: `task`, with "out"
// and "formats" added. It finds json, os, sys, matplotlib and matplotlib.pyplot (plt) imported.
// Errors: Python or matplotlib is missing (kNotFound), or the script failed.
[[nodiscard]] Result<void> draw(const char* script, nlohmann::json task,
                                const DrawOptions& options);

}  // namespace gimbal::apps
