#pragma once

#include <string>
#include <vector>

#include "apps/reproduction.h"
#include "base/result.h"

namespace gimbal::apps {

struct ReproducedTrace {
  std::string name;
  std::string path;
};

// What is asked of a plan.
struct ReproductionOptions {
  std::string what;  // "v1", "v2" or "front"
  // Empty: simulated. Else the model that real servers load; their router decides who runs what.
  std::string server_model;
  std::string profile = "h200-vllm";   // simulated
  std::string routing = "uniform";     // simulated: as `gimbal simulate --routing`
  int topics = 1;                      // above 1: users write about so many
  double scale_lengths = 1;            // of prompts and outputs, and of the front's budgets
  std::vector<std::string> workloads;  // length distributions, and v1's "multi-turn"; empty: all,
                                       // or none beside traces
  std::vector<ReproducedTrace> traces;
  std::vector<double> loads;  // empty: the plan's
  int num_prompts = 1000;
};

[[nodiscard]] std::vector<std::string> reproduction_names();
// Errors name the option and its value, and list the names where one is unknown.
[[nodiscard]] Result<Reproduction> make_reproduction(const ReproductionOptions& options);

// "NAME=FILE", or "FILE": its name without folder and extension.
[[nodiscard]] Result<ReproducedTrace> parse_reproduced_trace(const std::string& text);

}  // namespace gimbal::apps
