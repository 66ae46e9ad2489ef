#include "loadgen/client_connection.h"

#include <boost/asio/error.hpp>
#include <string_view>
#include <utility>

namespace gimbal::loadgen {

namespace asio = boost::asio;
using boost::system::error_code;

ClientConnection::ClientConnection(asio::io_context& io, const TargetUrl& target,
                                   const Endpoints& endpoints, Now now, OnAnswer on_answer)
    : stream_(io, target),
      endpoints_(endpoints),
      now_(std::move(now)),
      on_answer_(std::move(on_answer)) {}

void ClientConnection::send(std::size_t index, std::string request, AnswerReader reader) {
  ++use_;
  index_ = index;
  sent_ = now_();
  request_ = std::make_shared<const std::string>(std::move(request));
  reader_.emplace(std::move(reader));
  reused_ = stream_.is_open();
  if (reused_) {
    write();
  } else {
    open();
  }
}

void ClientConnection::open() {
  reused_ = false;
  stream_.open(endpoints_, [this, use = use_](const std::optional<Error>& failure) {
    if (use != use_) return;
    if (failure) return fail(failure->message);
    write();
  });
}

// Reads while it writes: a server may refuse a request before it has all of it.
void ClientConnection::write() {
  writing_ = true;
  // A connection that cannot be written to cannot be read from either: read() finds out.
  stream_.write(request_, [this, use = use_](const error_code& /*error*/) {
    if (use == use_) writing_ = false;
  });
  read();
}

void ClientConnection::read() {
  stream_.read_some([this, use = use_](const error_code& error, std::string_view bytes) {
    if (use == use_) on_read(error, bytes);
  });
}

void ClientConnection::on_read(const error_code& error, std::string_view bytes) {
  if (!bytes.empty() && reader_->put(now_(), bytes)) return finish();
  if (!error) return read();
  stream_.close();
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
  stream_.close();
}

}  // namespace gimbal::loadgen
