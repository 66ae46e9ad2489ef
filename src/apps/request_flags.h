#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "apps/workload_flags.h"
#include "base/result.h"
#include "loadgen/request_writer.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// What `bench serve` puts into each request. Names follow `vllm bench serve` where the meaning is
// the same.
struct RequestFlags {
  std::string backend = "openai";  // openai, vllm, openai-chat
  std::string endpoint;            // empty: the backend's
  std::string served_model_name;   // in the requests; empty: that of --model
  bool ignore_eos = false;
  double temperature = 0.0;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> frequency_penalty;
  std::optional<double> presence_penalty;
  std::optional<double> repetition_penalty;
  std::string extra_body;  // wins over all of these
  std::string prompt_format = "tokens";
  int vocab_size = 4096;
  int first_token = 260;
  // Accepted for the lines of `vllm bench serve`: token counts come from the answers.
  std::string tokenizer;
  std::string tokenizer_mode;
  bool trust_remote_code = false;

  void add_to(CLI::App& command);
  // All but model and key, which the target has. Errors name the flag.
  [[nodiscard]] Result<loadgen::RequestOptions> options(const WorkloadFlags& workload_flags,
                                                        const workload::Workload& requests) const;
  // Flags that were given and change nothing, with commas between.
  [[nodiscard]] std::string of_no_use() const;
};

}  // namespace gimbal::apps
