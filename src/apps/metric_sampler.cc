#include "apps/metric_sampler.h"

#include <utility>

#include "base/check.h"
#include "loadgen/http_get.h"

namespace gimbal::apps {
namespace {

constexpr Duration kTimeLimit = std::chrono::seconds(10);

}  // namespace

std::optional<loadgen::MetricPage> read_metrics(const ServeTarget& target) {
  const auto reply =
      loadgen::http_get(target.url, "/metrics", target.api_key, kTimeLimit, target.headers);
  if (!reply.ok() || reply->status != 200) return {};
  auto page = loadgen::parse_prometheus_text(reply->body);
  if (!page.ok()) return {};
  return std::move(*page);
}

MetricSampler::MetricSampler(const ServeTarget& target, Duration interval)
    : target_(target), interval_(interval), start_(clock_.now()) {
  GIMBAL_CHECK(interval > Duration{});
  thread_ = std::thread([this] { run(); });
}

MetricSampler::~MetricSampler() {
  join();
}

void MetricSampler::run() {
  while (true) {
    const Duration time = clock_.now() - start_;
    if (auto page = read_metrics(target_)) {
      moments_.push_back({.time = time, .gauges = std::move(page->gauges)});
    }
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, interval_, [this] { return stopped_; })) return;
  }
}

void MetricSampler::join() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

nlohmann::json MetricSampler::stop() {
  join();
  return loadgen::gauges_over_time(moments_);
}

}  // namespace gimbal::apps
