#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/check.h"

namespace gimbal::server {
namespace {

ServerOptions checked(ServerOptions options) {
  GIMBAL_CHECK(!options.served_model_names.empty(), "a model has no name");
  GIMBAL_CHECK(options.http.io_threads > 0);
  return options;
}

}  // namespace

Server::Server(ServerOptions options, const Clock& clock)
    : options_(checked(std::move(options))),
      clock_(clock),
      metrics_(options_.served_model_names.front(), options_.several_engines),
      router_(options_.http.io_threads, clock),
      worker_(options_.max_waiting_prompt_bytes),
      api_(options_, metrics_, [this] { return http_.connections(); }),
      http_(options_.http, api_) {}

Server::~Server() {
  stop();
}

Result<void> Server::start() {
  return http_.start();
}

void Server::serve(cluster::Engine& engine, const TextCodec& codec, const Insight& insight) {
  GIMBAL_CHECK(context_ == nullptr);
  const cluster::EngineLimits& limits = engine.limits();
  metrics_.set_engines(limits.engines);
  context_.reset(new ServingContext{
      .options = options_,
      .engine = engine,
      .codec = codec,
      .router = router_,
      .metrics = metrics_,
      .worker = worker_,
      .activity = activity_,
      .clock = clock_,
      .post = [this](int loop, std::function<void()> task) { http_.post(loop, std::move(task)); },
      .limits = {.max_model_len = limits.max_model_len,
                 .vocab_size = limits.vocab_size,
                 .longest_token_bytes =
                     std::max<std::size_t>(1, codec.vocabulary().longest_token_bytes()),
                 .max_choices = options_.max_choices_per_request},
      .insight = insight,
      .started_at = wall_seconds()});
  for (int loop = 0; loop < options_.http.io_threads; ++loop) {
    router_.set_wake(loop,
                     [this, loop] { http_.post(loop, [this, loop] { router_.deliver(loop); }); });
  }
  api_.set_context(*context_);
}

bool Server::drain(Duration limit) {
  api_.set_draining();
  const SteadyClock clock;
  const TimePoint started = clock.now();
  const bool idle = activity_.wait_idle(limit);
  http_.close_idle_connections();
  // What was said last may still be on its way to a client that reads slowly.
  while (idle && http_.unsent() > 0) {
    if (clock.now() - started > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return idle;
}

void Server::stop() {
  api_.set_draining();
  worker_.stop();
  for (int loop = 0; loop < options_.http.io_threads; ++loop)
    router_.set_wake(loop, nullptr);
  http_.stop();
}

}  // namespace gimbal::server
