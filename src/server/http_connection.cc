#include "server/http_connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "base/check.h"
#include "server/tcp_socket.h"

namespace gimbal::server {
namespace asio = boost::asio;
namespace {

constexpr std::size_t kReadBytes = 4u << 10;
constexpr std::size_t kBodyReadBytes = 64u << 10;
constexpr std::size_t kKeptBufferBytes = 64u << 10;
constexpr auto kAwait =
    asio::experimental::as_tuple(asio::use_awaitable_t<HttpConnection::Executor>{});

// Empties a buffer, and returns its memory if it has grown large.
void reset(std::string& buffer) {
  if (buffer.capacity() > kKeptBufferBytes) {
    std::string().swap(buffer);
  } else {
    buffer.clear();
  }
}

}  // namespace

std::vector<std::shared_ptr<HttpConnection>> HttpLoop::all() const {
  std::vector<std::shared_ptr<HttpConnection>> owned;
  owned.reserve(connections.size());
  for (HttpConnection* connection : connections) {
    if (auto owner = connection->weak_from_this().lock()) owned.push_back(std::move(owner));
  }
  return owned;
}

HttpConnection::HttpConnection(HttpLoop& http_loop, Socket socket)
    : loop_(http_loop),
      socket_(std::move(socket)),
      parser_(http_loop.options.max_header_bytes, http_loop.options.max_body_bytes) {
  if (loop_.tls != nullptr) tls_.emplace(socket_, *loop_.tls);
  enter(tls_ ? Phase::kHandshake : Phase::kIdle);
  loop_.connections.insert(this);
  loop_.open.store(loop_.connections.size(), std::memory_order_relaxed);
}

HttpConnection::~HttpConnection() {
  loop_.connections.erase(this);
  loop_.open.store(loop_.connections.size(), std::memory_order_relaxed);
  release_receiving();
}

void HttpConnection::start() {
  boost::system::error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  notice_vanished_peer(socket_.native_handle());
  socket_.non_blocking(true, ignored);
  start_reading();
}

void HttpConnection::start_reading() {
  if (reading_ || closed_) return;
  reading_ = true;
  watch_.reset();
  asio::co_spawn(
      socket_.get_executor(), [self = shared_from_this()] { return self->read_loop(); },
      asio::detached);
}

HttpConnection::Task HttpConnection::read_loop() {
  if (phase_ == Phase::kHandshake) {
    auto [failed] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kAwait);
    if (failed || closed_) {
      close();
      co_return;
    }
    enter(Phase::kIdle);
  }
  while (!closed_) {
    if ((busy_ || lags()) && input_.size() >= loop_.options.max_pipelined_bytes) break;
    if (phase_ != Phase::kBody && incoming_.size() > kReadBytes) std::string().swap(incoming_);
    incoming_.resize(phase_ == Phase::kBody ? kBodyReadBytes : kReadBytes);
    const auto space = asio::buffer(incoming_);
    auto [error, bytes] = tls_ ? co_await tls_->async_read_some(space, kAwait)
                               : co_await socket_.async_read_some(space, kAwait);
    if (error == asio::error::eof && !closed_) {
      client_ended();
      co_return;
    }
    if (error || closed_) {
      close();
      co_return;
    }
    input_.append(incoming_, 0, bytes);
    take_input();
  }
  reading_ = false;
  if (closed_) co_return;
  // Until the answer is complete. An event that was under way when reading began again is void.
  watch_.emplace(socket_.get_executor(), socket_.native_handle(), [self = shared_from_this()] {
    if (self->watch_) self->close();
  });
}

void HttpConnection::client_ended() {
  client_ended_ = true;
  if (busy_ && !streaming_ && !tls_) {
    refuse({kClientClosedRequest,
            "the client ended its side of the connection before the answer, which cancels the "
            "request; keep it open until the answer has come"});
  } else if (busy_ || !writing_) {
    close();
  }
}

void HttpConnection::take_input() {
  std::size_t used = 0;
  while (!busy_ && !closed_ && !lags() && phase_ != Phase::kLingering && used < input_.size()) {
    if (phase_ == Phase::kIdle) enter(Phase::kHeader);
    used += parser_.put(std::string_view(input_).substr(used));
    if (parser_.failed()) {
      refuse(parser_.refusal());
      break;
    }
    if (parser_.header_done()) receive_body();
    if (busy_ || closed_ || phase_ == Phase::kLingering || !parser_.done()) break;
    dispatch();
  }
  if (phase_ == Phase::kLingering) {
    dropped_ += input_.size() - used;
    used = input_.size();
    if (dropped_ > loop_.options.max_dropped_bytes) close();
  }
  if (used == input_.size()) {
    reset(input_);
  } else {
    input_.erase(0, used);
  }
}

std::size_t HttpConnection::pending_output() const {
  return out_.size() + flight_.size() - flown_;
}

bool HttpConnection::lags() const {
  return pending_output() > loop_.options.max_pending_output_bytes;
}

void HttpConnection::receive_body() {
  const std::size_t received = parser_.body_bytes();
  loop_.receiving_bytes.fetch_add(received - std::exchange(receiving_, received));
  if (loop_.receiving_bytes.load() > loop_.options.max_receiving_bytes) {
    refuse({503, "too many request bodies are being received"});
    return;
  }
  if (phase_ == Phase::kBody) return;
  enter(Phase::kBody);
  if (!parser_.done() && parser_.wants_continue()) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    send();
  }
}

void HttpConnection::dispatch() {
  release_receiving();
  HttpRequest request = parser_.take();
  parser_ = HttpParser(loop_.options.max_header_bytes, loop_.options.max_body_bytes);
  enter(Phase::kAnswering);
  busy_ = true;
  keep_alive_ = request.keep_alive && !loop_.closing.load(std::memory_order_relaxed);
  chunked_ = request.chunked_allowed;
  head_only_ = request.method == HttpMethod::kHead;
  streaming_ = false;
  allowed_ = allowed_unsent_ = largest_ = 0;
  auto job = loop_.handler.handle(std::move(request), *this);
  if (busy_) {
    job_ = std::move(job);
    GIMBAL_CHECK(job_ != nullptr, "a handler has neither answered nor kept a request");
  }
}

void HttpConnection::refuse(const HttpRefusal& refusal) {
  if (phase_ == Phase::kLingering) return;
  release_receiving();
  busy_ = true;
  keep_alive_ = false;
  head_only_ = false;
  respond(loop_.handler.refuse(refusal.status, refusal.reason));
  // A job that this cuts short is destroyed soon; what it still says is not heard.
  ended_ = true;
}

void HttpConnection::respond(HttpResponse response) {
  if (closed_ || ended_) return;
  GIMBAL_CHECK(busy_);
  append_response_head(out_, {.status = response.status,
                              .content_type = response.content_type,
                              .extra_headers = response.extra_headers,
                              .framing = BodyFraming::kLength,
                              .body_bytes = response.body.size(),
                              .keep_alive = keep_alive_});
  if (!head_only_) out_ += response.body;
  answer_complete();
}

void HttpConnection::start_stream(std::string_view extra_headers) {
  if (closed_ || ended_) return;
  GIMBAL_CHECK(busy_);
  if (!chunked_) keep_alive_ = false;
  streaming_ = true;
  append_response_head(out_,
                       {.status = 200,
                        .content_type = "text/event-stream; charset=utf-8",
                        .extra_headers = extra_headers,
                        .framing = chunked_ ? BodyFraming::kChunked : BodyFraming::kUntilClose,
                        .keep_alive = keep_alive_});
}

void HttpConnection::allow_backlog(std::size_t bytes) {
  allowed_ += bytes;
  allowed_unsent_ += bytes;
}

void HttpConnection::flush() {
  if (closed_ || ended_) return;
  largest_ = std::max(largest_, payload_.size() - std::min(payload_.size(), allowed_unsent_));
  allowed_unsent_ = 0;
  if (chunked_) {
    append_chunk(out_, payload_);
  } else {
    out_ += payload_;
  }
  reset(payload_);
  send();
  // The client has had no time yet to read what came at once.
  if (pending_output() > loop_.options.max_pending_output_bytes + allowed_ + largest_) close();
}

void HttpConnection::end_stream() {
  if (closed_ || ended_) return;
  if (chunked_) {
    append_chunk(out_, payload_);
    out_ += kLastChunk;
  } else {
    out_ += payload_;
  }
  reset(payload_);
  answer_complete();
}

void HttpConnection::wake_at(TimePoint time) {
  if (closed_ || ended_) return;
  GIMBAL_CHECK(busy_);
  if (!alarm_) alarm_.emplace(socket_.get_executor());
  alarm_->expires_at(std::chrono::steady_clock::time_point(
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(time.time_since_epoch())));
  alarm_->async_wait([self = shared_from_this(),
                      number = ++alarm_number_](const boost::system::error_code& stopped) {
    if (!stopped && number == self->alarm_number_ && self->job_) self->job_->on_wake();
  });
}

void HttpConnection::answer_complete() {
  busy_ = false;
  release_job();
  close_after_write_ = !keep_alive_;
  enter(close_after_write_ ? Phase::kLingering : Phase::kIdle);
  send();
  if (closed_) return;
  // What was sent ahead is parsed later, so that a handler's call never nests in another's.
  go_on_reading();
}

void HttpConnection::go_on_reading() {
  if (input_.empty() && reading_) return;
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->closed_ || self->busy_ || self->lags()) return;
    self->take_input();
    self->start_reading();
  });
}

void HttpConnection::release_job() {
  ++alarm_number_;
  if (alarm_) alarm_->cancel();
  if (job_ == nullptr) return;
  // The job may be on the call stack: it is destroyed once that has unwound.
  asio::post(socket_.get_executor(),
             [self = shared_from_this(), job = std::move(job_)]() mutable { job.reset(); });
}

void HttpConnection::enter(Phase phase) {
  phase_ = phase;
  since_ = loop_.clock.now();
}

void HttpConnection::release_receiving() {
  loop_.receiving_bytes.fetch_sub(receiving_);
  receiving_ = 0;
}

void HttpConnection::send() {
  if (writing_ || closed_) return;
  if (out_.empty()) return all_written();
  std::size_t sent = 0;
  if (!tls_) {
    // Nearly always the socket takes everything at once, and no operation has to wait.
    boost::system::error_code error;
    sent = socket_.write_some(asio::buffer(out_), error);
    if (error && error != asio::error::would_block && error != asio::error::try_again) {
      return close();
    }
    if (sent == out_.size()) {
      reset(out_);
      return all_written();
    }
  }
  flight_.swap(out_);
  flown_ = sent;
  writing_ = true;
  unacknowledged_ = 0;
  loop_.unsent.fetch_add(1);
  progress_ = loop_.clock.now();
  write_some();
}

void HttpConnection::write_some() {
  const auto rest = asio::buffer(flight_) + flown_;
  auto on_written = [self = shared_from_this()](const boost::system::error_code& error,
                                                std::size_t bytes) { self->written(error, bytes); };
  if (tls_) {
    tls_->async_write_some(rest, std::move(on_written));
  } else {
    socket_.async_write_some(rest, std::move(on_written));
  }
}

void HttpConnection::written(const boost::system::error_code& error, std::size_t bytes) {
  if (closed_) return;
  if (error) return close();
  flown_ += bytes;
  progress_ = loop_.clock.now();
  if (flown_ < flight_.size()) return write_some();
  writing_ = false;
  loop_.unsent.fetch_sub(1);
  flown_ = 0;
  reset(flight_);
  send();
  if (!closed_ && !busy_) go_on_reading();
}

void HttpConnection::all_written() {
  if (client_ended_) return close();
  if (!close_after_write_) return;
  // The client sees the end, and may read the answer while the rest of its request is dropped.
  close_after_write_ = false;
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  enter(Phase::kLingering);
}

void HttpConnection::close_when_idle() {
  keep_alive_ = false;
  if (!busy_ && !writing_ && (phase_ == Phase::kIdle || phase_ == Phase::kHandshake)) close();
}

void HttpConnection::check_time(TimePoint now) {
  const HttpOptions& options = loop_.options;
  if (writing_) {
    // The socket asks for more only once a good part of it is empty, which may take a slow client
    // longer than the bound.
    const int unacknowledged = unacknowledged_bytes(socket_.native_handle());
    if (unacknowledged < unacknowledged_) progress_ = now;
    unacknowledged_ = unacknowledged;
    if (now - progress_ > options.write_time) close();
    return;
  }
  const Duration waited = now - since_;
  switch (phase_) {
    case Phase::kAnswering:
      return;
    case Phase::kHandshake:
      if (waited > options.header_time) close();
      return;
    case Phase::kIdle:
      if (waited > options.idle_time) close();
      return;
    case Phase::kHeader:
      if (waited > options.header_time) refuse({408, "the request header did not come in time"});
      return;
    case Phase::kBody:
      if (waited > options.body_time) refuse({408, "the request body did not come in time"});
      return;
    case Phase::kLingering:
      if (waited > options.linger_time) close();
      return;
  }
}

void HttpConnection::close() {
  if (closed_) return;
  closed_ = true;
  busy_ = false;
  if (std::exchange(writing_, false)) loop_.unsent.fetch_sub(1);
  release_job();
  release_receiving();
  watch_.reset();
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace gimbal::server
