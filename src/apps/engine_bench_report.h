#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/spread.h"

namespace gimbal::apps {

// What one kind of step came to, over all repetitions.
struct EngineBenchRow {
  std::string test;  // "pp512": a prompt of 512 tokens; "tg64@8": 64 tokens for each of 8 sequences
  int batch = 1;     // sequences
  Spread tokens_per_second;  // over all sequences
  // Medians over the repetitions of what was reached over what the machine reached around it.
  double bandwidth_fraction = 0.0;  // bytes_touched a step over read bandwidth
  double compute_fraction = 0.0;    // matrix_flops over the yardstick's rate
  double distinct_experts = 0.0;    // mean of a MoE layer and step; 0: a dense model
  double bytes_touched = 0.0;       // mean of a step, step_weight_bytes
  double service_fraction = 0.0;    // of the time, in the expert service
  bool disturbed = false;           // others used the CPUs during a repetition
};

struct EngineBenchReport {
  std::string model;  // architecture
  double weight_bytes = 0.0;
  std::string dtype;
  int repetitions = 0;
  int depth = 0;  // tokens before those that are decoded

  std::string processor;
  int cpus = 0;     // online
  int threads = 0;  // that compute
  bool pinned = false;
  std::string isa;
  double huge_page_share = 0.0;  // of the weights
  Spread read_bandwidth;         // bytes a second
  std::string matrix_yardstick;
  Spread matrix_rate;  // floating-point operations a second

  std::vector<EngineBenchRow> rows;
};

[[nodiscard]] nlohmann::json to_json(const EngineBenchReport& report);
// For a person, several lines.
[[nodiscard]] std::string to_text(const EngineBenchReport& report);

}  // namespace gimbal::apps
