#pragma once

#include <cstdint>
#include <string>

#include "apps/reproduction.h"

namespace gimbal::apps {

// Runs of a reproduction on real servers of this machine: a `gimbal serve` is started for each, so
// that none finds what another left in a cache or in a step model, and is loaded over HTTP by the
// client of `gimbal bench serve`. Client and server share the processors. One thread.
class ServedRuns {
 public:
  // `model_dir`: what the servers load. `python_env`: empty for the default. Errors name the file.
  [[nodiscard]] static Result<ServedRuns> make(std::string model_dir, std::string python_env);

  // `flags.machines` and `flags.system` are the server's, `flags.workload` the client's. Answers
  // are as long as the workload says. Errors: a flag, a server that does not start, a run in which
  // nothing is answered; kCancelled on SIGINT and SIGTERM.
  [[nodiscard]] Result<RunNumbers> run(const RunFlags& flags, std::uint64_t seed) const;

 private:
  std::string model_dir_;
  std::string python_env_;
  int vocab_size_ = 0;
  std::int64_t context_length_ = 0;
  std::int64_t kv_bytes_per_token_ = 0;
};

}  // namespace gimbal::apps
