#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "server/close_watch.h"
#include "server/http_message.h"
#include "server/http_parser.h"
#include "server/server_options.h"

namespace gimbal::server {

class HttpConnection;

// What the connections of one loop share. One thread, but for the atomics.
struct HttpLoop {
  using Context = boost::asio::io_context;

  HttpLoop(int index_in_server, const HttpOptions& http_options, HttpHandler& request_handler,
           boost::asio::ssl::context* tls_context, std::atomic<std::size_t>& receiving)
      : index(index_in_server),
        options(http_options),
        handler(request_handler),
        tls(tls_context),
        receiving_bytes(receiving) {}

  // The connections, kept alive for a walk in which some may close.
  [[nodiscard]] std::vector<std::shared_ptr<HttpConnection>> all() const;

  int index;
  const HttpOptions& options;
  HttpHandler& handler;
  boost::asio::ssl::context* tls;             // null: plain TCP
  std::atomic<std::size_t>& receiving_bytes;  // of the whole server
  SteadyClock clock;
  std::unordered_set<HttpConnection*> connections;
  std::atomic<std::size_t> open{0};  // connections.size(), for other threads
  std::atomic<int> unsent{0};        // connections whose socket has not taken all yet
  std::atomic<bool> closing{false};  // no request after the present one is served
  Context context{1};                // last: destroying it destroys the connections
};

// One client's connection: reads requests, hands them to the handler one by one, writes answers.
// It always has a read pending, or a CloseWatch once the client has sent far ahead, so that a
// client that goes away is noticed while it waits or streams. TCP does not tell a client that only
// ends its sending side from one that has closed: while a request is being answered both count as
// gone. An answer that is complete is still written to both. One thread: the loop's. Owned
// (shared_ptr) by its pending reads, watches, writes and posts.
class HttpConnection final : public HttpExchange,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  using Executor = boost::asio::io_context::executor_type;
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Executor>;

  HttpConnection(HttpLoop& http_loop, Socket socket);
  ~HttpConnection() override;

  void start();
  // Closes the connection if it has waited for its client for too long.
  void check_time(TimePoint now);
  // Drops the connection, and destroys its job.
  void close();
  // Whether a request is being answered.
  [[nodiscard]] bool busy() const { return busy_; }
  // Closes if no request is being received or answered; else after the present answer.
  void close_when_idle();

  [[nodiscard]] int loop() const override { return loop_.index; }
  void respond(HttpResponse response) override;
  void start_stream(std::string_view extra_headers) override;
  [[nodiscard]] std::string& stream_buffer() override { return payload_; }
  void allow_backlog(std::size_t bytes) override;
  void flush() override;
  void end_stream() override;
  void wake_at(TimePoint time) override;

 private:
  using Timer = boost::asio::basic_waitable_timer<
      std::chrono::steady_clock, boost::asio::wait_traits<std::chrono::steady_clock>, Executor>;
  using Task = boost::asio::awaitable<void, Executor>;
  // What the connection waits for; each has its own bound in time.
  enum class Phase { kHandshake, kIdle, kHeader, kBody, kAnswering, kLingering };

  void start_reading();
  Task read_loop();
  void client_ended();   // its side; all that it has sent has been read
  void take_input();     // parses and dispatches what has been read
  void go_on_reading();  // soon, with what has been read first
  void receive_body();   // the header is complete, and perhaps some of the body has come
  [[nodiscard]] std::size_t pending_output() const;
  [[nodiscard]] bool lags() const;  // too many answers wait for the client to take the next request
  void dispatch();
  void refuse(const HttpRefusal& refusal);
  void answer_complete();
  void enter(Phase phase);
  void release_receiving();
  void release_job();
  void send();
  void write_some();
  void written(const boost::system::error_code& error, std::size_t bytes);
  void all_written();

  HttpLoop& loop_;
  Socket socket_;
  std::optional<boost::asio::ssl::stream<Socket&>> tls_;
  Phase phase_;
  TimePoint since_;  // of phase_
  HttpParser parser_;
  std::string incoming_;       // where the pending read writes
  std::string input_;          // read, not parsed yet
  std::size_t dropped_ = 0;    // input bytes ignored while lingering
  std::size_t receiving_ = 0;  // this connection's part of HttpLoop::receiving_bytes
  bool reading_ = false;
  std::optional<CloseWatch> watch_;  // while it does not read
  bool client_ended_ = false;
  bool busy_ = false;
  bool streaming_ = false;  // the present answer's head has been written
  bool keep_alive_ = true;  // after the present answer
  bool chunked_ = true;     // framing of the present stream
  bool head_only_ = false;  // the present request is a HEAD
  bool close_after_write_ = false;
  bool closed_ = false;
  bool ended_ = false;  // the last answer has been given; jobs are not listened to any more
  bool writing_ = false;
  TimePoint progress_;      // of the write
  int unacknowledged_ = 0;  // bytes, when last looked at while writing
  // Of the present stream, in bytes; both widen the bound on what may wait for the client.
  std::size_t allowed_ = 0;         // by allow_backlog()
  std::size_t allowed_unsent_ = 0;  // the part of it that is in payload_
  std::size_t largest_ = 0;         // flushed at once, what is allowed apart
  std::string payload_;             // stream payload not framed yet
  std::string out_;                 // bytes not handed to the socket yet
  std::string flight_;              // bytes an asynchronous write works on
  std::size_t flown_ = 0;           // of flight_
  std::unique_ptr<HttpJob> job_;
  std::optional<Timer> alarm_;      // made when a job first asks for it
  std::uint64_t alarm_number_ = 0;  // of the latest; what an earlier one has still queued is void
};

}  // namespace gimbal::server
