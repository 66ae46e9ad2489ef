#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "workload/request_spec.h"

namespace gimbal::workload {

// What a workload is made of. Value type.
struct WorkloadStatistics {
  std::size_t requests = 0;
  double seconds = 0.0;        // arrival of the last request
  double rate = 0.0;           // requests a second over that time; 0 when all arrive at once
  double gap_variation = 0.0;  // coefficient of variation of the gaps between arrivals; 1: Poisson
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  // Prompt tokens that an earlier prompt began with: what an infinite prefix cache would hit.
  std::int64_t shared_prompt_tokens = 0;
  std::size_t users = 0;
  std::map<std::string, std::size_t> classes;  // requests by class, where there are classes
  std::map<int, std::int64_t> topics;          // prompt tokens by topic, where there are topics
  std::vector<double> prompt_lengths;          // in order of arrival
  std::vector<double> output_lengths;
};

[[nodiscard]] WorkloadStatistics statistics_of(const Workload& workload);

}  // namespace gimbal::workload
