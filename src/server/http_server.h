#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "server/http_message.h"
#include "server/server_options.h"

namespace gimbal::server {

// Listens, and serves each connection on one of its loops (one thread each).
// Thread-safe, but for start() and stop(), which one thread calls.
class HttpServer {
 public:
  // The handler must outlive the server.
  HttpServer(HttpOptions options, HttpHandler& handler);
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Reads the certificate, binds and starts the threads. Errors name the file or the address.
  [[nodiscard]] Result<void> start();
  // The port that is listened on. Requires: started.
  [[nodiscard]] std::uint16_t port() const;
  // Runs `task` on a loop's thread, soon; never, if the server stops before.
  void post(int loop, std::function<void()> task);
  [[nodiscard]] std::size_t connections() const;
  // Connections whose answers have not been taken by the client yet.
  [[nodiscard]] int unsent() const;
  // From now on a connection is closed as soon as it waits for a next request.
  void close_idle_connections();
  // Closes everything and joins the threads; jobs are destroyed. Idempotent.
  void stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace gimbal::server
