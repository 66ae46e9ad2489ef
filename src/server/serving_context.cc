#include "server/serving_context.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/check.h"

namespace gimbal::server {

void Activity::end() {
  if (running_.fetch_sub(1) > 1) return;
  const std::lock_guard lock(mutex_);
  idle_.notify_all();
}

bool Activity::wait_idle(Duration limit) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, limit, [this] { return running_.load() == 0; });
}

bool ServingContext::serves(std::string_view model) const {
  const auto& names = options.served_model_names;
  return model.empty() || std::find(names.begin(), names.end(), model) != names.end();
}

const std::string& ServingContext::model_name() const {
  GIMBAL_CHECK(!options.served_model_names.empty());
  return options.served_model_names.front();
}

int ServingContext::retry_after_seconds() const {
  const cluster::EngineSnapshot snapshot = engine.snapshot();
  if (!snapshot.prefill_tokens_per_second || *snapshot.prefill_tokens_per_second <= 0) return 1;
  const auto tokens =
      static_cast<double>(snapshot.waiting_prefill_tokens + snapshot.running_prefill_tokens);
  return static_cast<int>(
      std::clamp(std::ceil(tokens / *snapshot.prefill_tokens_per_second), 1.0, 600.0));
}

std::int64_t wall_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace gimbal::server
