#include "loadgen/tls_client.h"

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <boost/asio/ip/address.hpp>

namespace gimbal::loadgen {

namespace asio = boost::asio;
using boost::system::error_code;

TlsClient::TlsClient(bool insecure)
    : insecure_(insecure), context_(asio::ssl::context::tls_client) {
  SSL_CTX_set_min_proto_version(context_.native_handle(), TLS1_2_VERSION);
}

Result<std::shared_ptr<TlsClient>> TlsClient::make(const TlsOptions& options) {
  std::shared_ptr<TlsClient> made(new TlsClient(options.insecure));
  if (options.insecure) return made;
  error_code error;
  if (options.cacert.empty()) {
    made->context_.set_default_verify_paths(error);
    if (error) {
      return Error{ErrorCode::kIo, "the system's certificates cannot be read: " + error.message()};
    }
    return made;
  }
  made->context_.load_verify_file(options.cacert, error);
  if (error) {
    return invalid_argument(
        fmt::format("--cacert cannot be used ({}): {}", error.message(), options.cacert), "cacert");
  }
  return made;
}

std::unique_ptr<TlsClient::Stream> TlsClient::wrap(asio::ip::tcp::socket& socket,
                                                   const std::string& host) {
  auto stream = std::make_unique<Stream>(socket, context_);
  SSL* const tls = stream->native_handle();
  error_code not_an_address;
  asio::ip::make_address(host, not_an_address);
  if (not_an_address) SSL_set_tlsext_host_name(tls, host.c_str());
  if (insecure_) return stream;
  SSL_set_verify(tls, SSL_VERIFY_PEER, nullptr);
  if (not_an_address) {
    SSL_set_hostflags(tls, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set1_host(tls, host.c_str());
  } else {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host.c_str());
  }
  return stream;
}

Error TlsClient::failure(Stream& stream, const std::string& host, const error_code& error) {
  SSL* const tls = stream.native_handle();
  const long verdict = SSL_get_verify_result(tls);
  if (verdict == X509_V_OK || SSL_get_verify_mode(tls) == SSL_VERIFY_NONE) {
    return {ErrorCode::kUnavailable, "no TLS connection to " + host + ": " + error.message()};
  }
  return invalid_argument(fmt::format("the certificate of {} is not accepted: {}", host,
                                      X509_verify_cert_error_string(verdict)),
                          "base_url");
}

}  // namespace gimbal::loadgen
