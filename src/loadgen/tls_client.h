#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <string>

#include "base/result.h"

namespace gimbal::loadgen {

// Whom to trust.
struct TlsOptions {
  std::string cacert;     // PEM file of authorities; empty: the system's
  bool insecure = false;  // trust anybody
};

// What the connections to one HTTPS server share. Thread-safe once made.
class TlsClient final {
 public:
  using Stream = boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>;

  // Errors: a file that cannot be read, or holds no certificate.
  [[nodiscard]] static Result<std::shared_ptr<TlsClient>> make(const TlsOptions& options);

  // A TLS stream over `socket`, which must outlive it, for a handshake as the client of `host`, a
  // name or an address, which the certificate must then be for.
  [[nodiscard]] std::unique_ptr<Stream> wrap(boost::asio::ip::tcp::socket& socket,
                                             const std::string& host);
  // Why a handshake has failed. kInvalidArgument, of field base_url: the certificate is not
  // trusted, or not for `host`; trying again is of no use.
  [[nodiscard]] static Error failure(Stream& stream, const std::string& host,
                                     const boost::system::error_code& error);

 private:
  explicit TlsClient(bool insecure);

  const bool insecure_;
  boost::asio::ssl::context context_;
};

}  // namespace gimbal::loadgen
