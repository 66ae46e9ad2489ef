#include "loadgen/client_stream.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "loadgen/tls_client.h"

namespace gimbal::loadgen {

namespace asio = boost::asio;
using boost::system::error_code;

// A TLS operation may still touch its buffers after its socket has been closed: they live as long
// as it does.
struct ClientStream::Link {
  explicit Link(asio::io_context& io) : socket(io) {}

  asio::ip::tcp::socket socket;
  std::unique_ptr<TlsClient::Stream> tls;  // null: plain
  std::array<char, 8192> incoming{};
};

void ClientStream::open(const Endpoints& endpoints, OnOpen on_open) {
  close();
  link_ = std::make_shared<Link>(io_);
  asio::async_connect(
      link_->socket, endpoints,
      [link = link_, &target = target_, on_open = std::move(on_open)](
          const error_code& error, const asio::ip::tcp::endpoint& /*endpoint*/) {
        if (error) {
          return on_open(Error{ErrorCode::kUnavailable, "cannot connect: " + error.message()});
        }
        error_code ignored;
        link->socket.set_option(asio::ip::tcp::no_delay(true), ignored);
        if (target.tls == nullptr) return on_open({});
        link->tls = target.tls->wrap(link->socket, target.host);
        link->tls->async_handshake(
            asio::ssl::stream_base::client, [link, &target, on_open](const error_code& failed) {
              if (failed) return on_open(TlsClient::failure(*link->tls, target.host, failed));
              on_open({});
            });
      });
}

void ClientStream::close() {
  if (link_ == nullptr) return;
  error_code ignored;
  link_->socket.close(ignored);
  link_.reset();
}

void ClientStream::write(std::shared_ptr<const std::string> bytes, OnWritten on_written) {
  const auto buffer = asio::buffer(*bytes);
  auto told = [link = link_, bytes = std::move(bytes), on_written = std::move(on_written)](
                  const error_code& error, std::size_t /*count*/) { on_written(error); };
  if (link_->tls) {
    asio::async_write(*link_->tls, buffer, std::move(told));
  } else {
    asio::async_write(link_->socket, buffer, std::move(told));
  }
}

void ClientStream::read_some(OnRead on_read) {
  const auto space = asio::buffer(link_->incoming);
  auto told = [link = link_, on_read = std::move(on_read)](const error_code& error,
                                                           std::size_t count) {
    // A server that closes without TLS's word for it; the answer itself tells whether it is whole.
    const bool truncated = error == asio::ssl::error::stream_truncated;
    on_read(truncated ? error_code(asio::error::eof) : error,
            std::string_view(link->incoming.data(), count));
  };
  if (link_->tls) {
    link_->tls->async_read_some(space, std::move(told));
  } else {
    link_->socket.async_read_some(space, std::move(told));
  }
}

}  // namespace gimbal::loadgen
