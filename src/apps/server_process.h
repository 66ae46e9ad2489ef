#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "loadgen/target_url.h"

namespace gimbal::apps {

// A `gimbal serve` of this program in a process of its own, on a free port of 127.0.0.1. It ends
// with this object, and with this process, however that ends. One thread.
class ServerProcess {
 public:
  // Waits until it serves. `flags`: of `gimbal serve`, without host and port. Errors hold the last
  // lines that the server wrote.
  [[nodiscard]] static Result<std::unique_ptr<ServerProcess>> start(
      const std::vector<std::string>& flags, Duration timeout = std::chrono::minutes(5));
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  [[nodiscard]] const loadgen::TargetUrl& url() const { return url_; }
  // Whether it still runs; and the end of what it wrote so far.
  [[nodiscard]] bool alive();
  [[nodiscard]] std::string last_words() const;

 private:
  ServerProcess() = default;
  [[nodiscard]] Result<void> spawn(const std::vector<std::string>& flags);
  [[nodiscard]] Result<void> wait_until_serving(Duration timeout);
  [[nodiscard]] std::string output() const;

  pid_t pid_ = -1;        // -1: none, or one that has ended
  int output_file_ = -1;  // in memory: the server's stdout and stderr
  loadgen::TargetUrl url_;
};

// Where a server's output says that it serves: "http://127.0.0.1:PORT", on a line that has ended.
// Empty before.
[[nodiscard]] std::string serving_url(const std::string& output);

}  // namespace gimbal::apps
