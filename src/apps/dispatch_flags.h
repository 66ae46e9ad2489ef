#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "cluster/dispatcher.h"
#include "policy/preset.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// How requests get their engines, as the command line says it.
struct DispatchFlags {
  std::string dispatch = "gimbal";
  std::string binding = "early";
  std::string running_load = "uncomputed";
  bool feedback = true;
  std::optional<double> exchange_ms;  // what a token's exchange costs; absent: it is known
  std::string constants_path;         // JSON; empty: the defaults
  std::string decisions_path;
  cluster::DispatcherOptions options;

  void add_to(CLI::App& command);
  // Takes the preset's columns for options that the command line does not give.
  void apply(const policy::Preset& preset, const CLI::App& command);
  // Fills in `options`. Errors name the flag.
  [[nodiscard]] Result<void> complete(int batched_tokens);
};

}  // namespace gimbal::apps
