#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "loadgen/request_writer.h"
#include "loadgen/target_url.h"
#include "report/request_record.h"
#include "workload/request_spec.h"

namespace gimbal::loadgen {

struct LoadProgress {
  std::int64_t total = 0;
  std::int64_t sent = 0;
  std::int64_t answered = 0;  // completed or failed
  std::int64_t failed = 0;
  Duration elapsed{};
};

struct LoadOptions {
  RequestOptions request;
  // Requests in flight at once; what is due beyond it waits, and the loop is no longer open.
  std::optional<std::int64_t> max_concurrency = {};
  Duration request_timeout = std::chrono::hours(6);
  bool keep_text = false;  // keep what was generated in the records
  // When it becomes true, nothing more is sent and what is in flight is dropped. Looked at ten
  // times a second, so that a signal handler can set it.
  const std::atomic<bool>* stop = nullptr;
  std::function<void(const LoadProgress&)> on_progress =
      {};  // ten times a second, on the run's thread
};

struct LoadResult {
  std::vector<report::RequestRecord> records;  // of what was answered, in the workload's order
  std::vector<Duration>
      lags;             // by how much each request that came due was late, by this client's fault
  Duration duration{};  // from the workload's start to the last answer
  std::int64_t dropped = 0;  // in flight when the run was stopped
  std::int64_t unsent = 0;   // not sent by then
};

// Sends each request of the workload when it is due, whatever the server does (open loop), each on
// a connection of its own that later ones use again, and measures the answers. Runs on the calling
// thread alone; returns when all are answered or `stop` is set. A request that fails is a record
// with an error. Requires: max_concurrency, where given, >= 1. Errors: the options, or a host that
// has no address.
[[nodiscard]] Result<LoadResult> run_load(const workload::Workload& workload,
                                          const TargetUrl& target, const LoadOptions& options);

}  // namespace gimbal::loadgen
