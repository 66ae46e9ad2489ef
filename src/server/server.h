#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "server/api.h"
#include "server/http_server.h"
#include "server/server_metrics.h"
#include "server/server_options.h"
#include "server/serving_context.h"
#include "server/text_codec.h"
#include "server/text_worker.h"
#include "server/token_router.h"

namespace gimbal::server {

// The OpenAI-compatible server: start() listens at once, serve() makes it ready once a model is
// loaded, drain() and stop() end it. One thread calls these.
class Server final {
 public:
  // Requires: a name in options.served_model_names. `clock` must outlive the server.
  Server(ServerOptions options, const Clock& clock);
  ~Server();  // stops
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Listens: /health is alive, /ready and the model's endpoints answer 503. Errors: see HttpServer.
  [[nodiscard]] Result<void> start();
  [[nodiscard]] std::uint16_t port() const { return http_.port(); }

  // Where the engine is to send its outputs. Must outlive the engine, or the engine must be
  // stopped before.
  [[nodiscard]] cluster::TokenSink& sink() { return router_; }
  // Serves the model; /ready turns green. All must live until stop(). Requires: called once, after
  // start().
  void serve(cluster::Engine& engine, const TextCodec& codec, const Insight& insight = {});

  // Turns /ready red, refuses new work, and blocks until what runs has ended (true) or `limit` has
  // passed. Connections that wait for a next request are closed at the end.
  [[nodiscard]] bool drain(Duration limit);
  // Closes everything; what still runs is cancelled. Idempotent.
  void stop();

 private:
  const ServerOptions options_;
  const Clock& clock_;
  ServerMetrics metrics_;
  TokenRouter router_;
  Activity activity_;
  TextWorker worker_;
  std::unique_ptr<ServingContext> context_;
  Api api_;
  HttpServer http_;  // last: its jobs use everything above
};

}  // namespace gimbal::server
