#include "loadgen/client_connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/write.hpp>
#include <string_view>
#include <utility>

namespace gimbal::loadgen {

namespace asio = boost::asio;
using boost::system::error_code;

ClientConnection::ClientConnection(asio::io_context& io, const Endpoints& endpoints, Now now,
                                   OnAnswer on_answer)
    : socket_(io), endpoints_(endpoints), now_(std::move(now)), on_answer_(std::move(on_answer)) {}

void ClientConnection::send(std::size_t index, std::string request, AnswerReader reader) {
  ++use_;
  index_ = index;
  sent_ = now_();
  request_ = std::move(request);
  reader_.emplace(std::move(reader));
  reused_ = socket_.is_open();
  if (reused_) {
    write();
  } else {
    open();
  }
}

void ClientConnection::open() {
  reused_ = false;
  asio::async_connect(socket_, endpoints_,
                      [this, use = use_](const error_code& error, const auto& /*endpoint*/) {
                        if (use != use_) return;
                        if (error) return fail("cannot connect: " + error.message());
                        error_code ignored;
                        socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
                        write();
                      });
}

// Reads while it writes: a server may refuse a request before it has all of it.
void ClientConnection::write() {
  writing_ = true;
  // A connection that cannot be written to cannot be read from either: read() finds out.
  asio::async_write(socket_, asio::buffer(request_),
                    [this, use = use_](const error_code& /*error*/, std::size_t /*count*/) {
                      if (use == use_) writing_ = false;
                    });
  read();
}

void ClientConnection::read() {
  socket_.async_read_some(asio::buffer(buffer_),
                          [this, use = use_](const error_code& error, std::size_t count) {
                            if (use == use_) on_read(error, count);
                          });
}

void ClientConnection::on_read(const error_code& error, std::size_t count) {
  if (count > 0 && reader_->put(now_(), std::string_view(buffer_.data(), count))) {
    return finish();
  }
  if (!error) return read();
  error_code ignored;
  socket_.close(ignored);
  if (reused_ && !reader_->started()) {
    ++use_;
    return open();
  }
  reader_->end(error == asio::error::eof ? "the server closed the connection within an answer"
                                         : "connection lost: " + error.message());
  finish();
}

void ClientConnection::fail(std::string_view reason) {
  close();
  reader_->end(reason);
  on_answer_(*this);
}

void ClientConnection::finish() {
  // An answer to a request that is not written yet leaves its rest in the way of the next one.
  if (!reader_->reusable() || writing_) close();
  ++use_;
  on_answer_(*this);
}

void ClientConnection::close() {
  ++use_;
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace gimbal::loadgen
