#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "loadgen/target_url.h"

namespace gimbal::loadgen {

// A server for tests, on a thread of its own, that answers as the request's `user` says:
//   ""          a stream of max_tokens chunks, usage, [DONE]
//   "refused"   HTTP 429 with an error body
//   "broken"    two chunks, then the connection closes
//   "garbage"   bytes that are no HTTP
//   "silent"    nothing, ever
// GET answers 200 with a list of models.
class ScriptedServer {
 public:
  struct Options {
    // No answer begins before so many requests are open: proof that they are open at once.
    int hold_until = 0;
    bool keep_alive = true;
    std::string certificate;  // PEM file with its key: speaks TLS
  };
  // What all sessions share; the server's thread writes it.
  struct Counters {
    std::atomic<int> connections{0};
    std::atomic<int> requests{0};
    std::atomic<int> most_open{0};  // requests at once
  };

  explicit ScriptedServer(Options options);
  ScriptedServer() : ScriptedServer(Options{}) {}
  ~ScriptedServer();

  // Requires: no certificate.
  [[nodiscard]] TargetUrl url() const;
  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  class Session;

  void accept();
  void request_open(Session& session);
  void request_closed() { --open_; }

  Options options_;
  Counters counters_;
  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor acceptor_;
  std::optional<boost::asio::ssl::context> tls_;
  std::vector<std::shared_ptr<Session>> held_;    // until enough are open
  std::vector<std::shared_ptr<Session>> silent_;  // for ever
  int open_ = 0;
  bool held_once_ = false;
  std::thread thread_;
};

}  // namespace gimbal::loadgen
