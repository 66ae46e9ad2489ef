#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "apps/serve_target.h"
#include "base/clock.h"
#include "loadgen/gauge_series.h"
#include "loadgen/prometheus_text.h"

namespace gimbal::apps {

// The server's /metrics now; nothing where it has none, or none that can be read.
[[nodiscard]] std::optional<loadgen::MetricPage> read_metrics(const ServeTarget& target);

// Reads a server's gauges at an interval, on a thread of its own, from construction to stop().
class MetricSampler {
 public:
  // `target` must outlive this. Requires: interval > 0.
  MetricSampler(const ServeTarget& target, Duration interval);
  ~MetricSampler();
  MetricSampler(const MetricSampler&) = delete;
  MetricSampler& operator=(const MetricSampler&) = delete;

  // Ends the sampling; loadgen::gauges_over_time, since construction.
  [[nodiscard]] nlohmann::json stop();

 private:
  void run();
  void join();

  const ServeTarget& target_;
  Duration interval_;
  SteadyClock clock_;
  TimePoint start_;
  std::vector<loadgen::GaugeMoment> moments_;  // the thread's until it is joined
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace gimbal::apps
