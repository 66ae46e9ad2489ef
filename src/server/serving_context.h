#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

#include "base/clock.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "cluster/order_log.h"
#include "server/openai_request.h"
#include "server/recent_answers.h"
#include "server/server_metrics.h"
#include "server/server_options.h"
#include "server/text_codec.h"
#include "server/text_worker.h"
#include "server/token_router.h"

namespace gimbal::server {

// What can be seen of the engine behind its interface.
struct Insight {
  const cluster::Inspector* inspector = nullptr;  // into an engine that is several; null: it is one
  const cluster::OrderInspector* orders = nullptr;  // where they were queued; null: not kept
};

// Counts what runs, so that a drain can wait for it. Thread-safe.
class Activity final {
 public:
  void begin() { running_.fetch_add(1); }
  void end();
  [[nodiscard]] std::int64_t running() const { return running_.load(); }
  // Blocks until nothing runs (true) or `limit` has passed.
  [[nodiscard]] bool wait_idle(Duration limit);

 private:
  std::atomic<std::int64_t> running_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
};

// Runs a task on a loop's thread, soon.
using LoopPost = std::function<void(int loop, std::function<void()> task)>;

// What all requests to one model share. Thread-safe; what it refers to outlives it.
struct ServingContext {
  const ServerOptions& options;
  cluster::Engine& engine;
  const TextCodec& codec;
  TokenRouter& router;
  ServerMetrics& metrics;
  TextWorker& worker;
  Activity& activity;  // of jobs
  const Clock& clock;
  LoopPost post;
  RequestLimits limits;
  Insight insight;
  std::int64_t started_at = 0;  // seconds since 1970, as /v1/models shows it
  std::atomic<int> choices{0};  // accepted and not ended
  std::atomic<std::uint64_t> requests{0};
  RecentAnswers answers = RecentAnswers();  // with insight

  // Whether a request may name this model. An empty name is the server's own.
  [[nodiscard]] bool serves(std::string_view model) const;
  [[nodiscard]] const std::string& model_name() const;
  // What a client that finds the queue full should wait: the predicted time to clear the waiting
  // prompts, in whole seconds; 1 where no rate is known.
  [[nodiscard]] int retry_after_seconds() const;
};

// Seconds since 1970.
[[nodiscard]] std::int64_t wall_seconds();

}  // namespace gimbal::server
