#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "workload/multi_turn.h"
#include "workload/random_lengths.h"
#include "workload/request_spec.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// What every command that needs requests asks on its command line: a trace or a generator, and what
// is done to it. Names follow `vllm bench serve` where the meaning is the same.
struct WorkloadFlags {
  std::string dataset_name;  // empty: from what else is given; see make_workload
  std::string dataset_path;
  std::string trace_format;
  std::optional<std::int64_t> block_size;
  std::optional<std::int64_t> num_prompts;   // absent: the whole trace; 1000 of a generator
  std::optional<std::int64_t> skip_prompts;  // at the beginning of a trace; needs arrivals
  std::uint64_t seed = 0;
  std::string request_rate = "inf";
  std::optional<double> burstiness;  // absent: a trace's own pattern, else 1
  double scale_lengths = 1.0;

  std::string lengths;  // a workload::LengthName
  std::string prompt_range = "16:2048";
  bool exact_count = false;
  workload::RandomLengthsOptions random;
  workload::MultiTurnOptions conversation;
  int users = 0;
  int topics = 0;
  int pin_users = 0;

  std::optional<double> ls_share;
  std::optional<std::int64_t> prompt_cap;
  std::optional<std::int64_t> output_cap;

  void add_to(CLI::App& command);
  // The rate; absent: "inf". Errors name the flag.
  [[nodiscard]] Result<std::optional<double>> rate() const;
};

// Reads or generates the requests, in order of arrival. The seed decides everything that is random,
// lengths, users, classes and arrivals each from a stream of its own. Errors name the flag or the
// file.
[[nodiscard]] Result<workload::Workload> make_workload(const WorkloadFlags& flags);

}  // namespace gimbal::apps
