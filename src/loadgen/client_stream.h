#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "loadgen/target_url.h"

namespace gimbal::loadgen {

// A TCP or TLS connection to a target, which can be closed and opened again. At most one read and
// one write at a time; what is under way when it is closed is still told, mostly as an error. One
// thread, the io_context's. Handlers may close the stream, not destroy it.
class ClientStream {
 public:
  using Endpoints = boost::asio::ip::tcp::resolver::results_type;
  using OnOpen = std::function<void(const std::optional<Error>& failure)>;
  using OnWritten = std::function<void(const boost::system::error_code& error)>;
  // `bytes` until the next read; some may have come with an error.
  using OnRead =
      std::function<void(const boost::system::error_code& error, std::string_view bytes)>;

  // `target` must outlive the stream.
  ClientStream(boost::asio::io_context& io, const TargetUrl& target) : io_(io), target_(target) {}

  // Connects, and with https shakes hands; closes first. Errors: see TlsClient::failure, and
  // kUnavailable.
  void open(const Endpoints& endpoints, OnOpen on_open);
  [[nodiscard]] bool is_open() const { return link_ != nullptr; }
  void close();

  // Require: open.
  void write(std::shared_ptr<const std::string> bytes, OnWritten on_written);
  void read_some(OnRead on_read);

 private:
  struct Link;

  boost::asio::io_context& io_;
  const TargetUrl& target_;
  std::shared_ptr<Link> link_;  // owners: this, and what is under way
};

}  // namespace gimbal::loadgen
