#include "server/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "server/http_connection.h"

namespace gimbal::server {
namespace asio = boost::asio;
using asio::ip::tcp;

struct HttpServer::Parts {
  Parts(HttpOptions http_options, HttpHandler& http_handler)
      : options(std::move(http_options)), handler(http_handler) {}

  using Acceptor = asio::basic_socket_acceptor<tcp, HttpConnection::Executor>;
  using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                           asio::wait_traits<std::chrono::steady_clock>,
                                           HttpConnection::Executor>;

  Result<void> load_certificate();
  Result<void> listen();
  void accept_next();
  void accepted(const boost::system::error_code& error, HttpConnection::Socket socket, int loop);
  void watch(int loop);
  [[nodiscard]] Duration watch_period() const;
  [[nodiscard]] std::size_t open_connections() const;

  HttpOptions options;
  HttpHandler& handler;
  std::optional<asio::ssl::context> tls;
  std::atomic<std::size_t> receiving{0};
  std::vector<std::unique_ptr<HttpLoop>> loops;
  std::vector<std::unique_ptr<Timer>> timers;  // one a loop
  std::optional<Acceptor> acceptor;            // on loop 0
  std::optional<Timer> pause;                  // after a failed accept
  std::uint16_t port = 0;
  int next_loop = 0;
  std::vector<std::thread> threads;
};

Result<void> HttpServer::Parts::load_certificate() {
  if (options.ssl_certfile.empty()) return {};
  tls.emplace(asio::ssl::context::tls_server);
  boost::system::error_code error;
  tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                       asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                       asio::ssl::context::no_tlsv1_1,
                   error);
  SSL_CTX_set_mode(tls->native_handle(), SSL_MODE_RELEASE_BUFFERS);
  tls->use_certificate_chain_file(options.ssl_certfile, error);
  if (error) {
    return invalid_argument(fmt::format("--ssl-certfile cannot be used ({}): {}", error.message(),
                                        options.ssl_certfile),
                            "ssl-certfile");
  }
  const std::string& key = options.ssl_keyfile.empty() ? options.ssl_certfile : options.ssl_keyfile;
  tls->use_private_key_file(key, asio::ssl::context::pem, error);
  if (error) {
    return invalid_argument(
        fmt::format("--ssl-keyfile cannot be used ({}): {}", error.message(), key), "ssl-keyfile");
  }
  return {};
}

Result<void> HttpServer::Parts::listen() {
  const auto failed = [this](const boost::system::error_code& error) {
    return Error{
        ErrorCode::kIo,
        fmt::format("cannot listen ({}): {}:{}", error.message(), options.host, options.port),
        "host"};
  };
  boost::system::error_code error;
  tcp::resolver resolver(loops[0]->context);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error) return failed(error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.emplace(loops[0]->context.get_executor());
  acceptor->open(endpoint.protocol(), error);
  if (error) return failed(error);
  acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  acceptor->bind(endpoint, error);
  if (error) return failed(error);
  acceptor->listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed(error);
  port = acceptor->local_endpoint(error).port();
  return {};
}

void HttpServer::Parts::accept_next() {
  const int loop = next_loop;
  next_loop = (next_loop + 1) % static_cast<int>(loops.size());
  acceptor->async_accept(
      loops[static_cast<std::size_t>(loop)]->context.get_executor(),
      [this, loop](const boost::system::error_code& error, HttpConnection::Socket socket) {
        accepted(error, std::move(socket), loop);
      });
}

void HttpServer::Parts::accepted(const boost::system::error_code& error,
                                 HttpConnection::Socket socket, int loop) {
  if (error == asio::error::operation_aborted) return;
  if (error) {  // no file descriptor left, for example: others may close soon
    log_warning("a connection could not be accepted: {}", error.message());
    pause->expires_after(std::chrono::milliseconds(100));
    pause->async_wait([this](const boost::system::error_code& stopped) {
      if (!stopped) accept_next();
    });
    return;
  }
  if (open_connections() >= static_cast<std::size_t>(options.max_connections)) {
    HttpResponse response = handler.refuse(503, "too many connections");
    std::string bytes;
    append_response_head(bytes, {.status = response.status,
                                 .content_type = response.content_type,
                                 .extra_headers = response.extra_headers,
                                 .body_bytes = response.body.size(),
                                 .keep_alive = false});
    bytes += response.body;
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
    if (!tls) socket.write_some(asio::buffer(bytes), ignored);
    socket.shutdown(HttpConnection::Socket::shutdown_send, ignored);
  } else {
    HttpLoop& home = *loops[static_cast<std::size_t>(loop)];
    asio::dispatch(home.context, [&home, taken = std::move(socket)]() mutable {
      std::make_shared<HttpConnection>(home, std::move(taken))->start();
    });
  }
  accept_next();
}

Duration HttpServer::Parts::watch_period() const {
  const Duration shortest = std::min({options.header_time, options.body_time, options.idle_time,
                                      options.write_time, options.linger_time});
  return std::clamp<Duration>(shortest / 4, std::chrono::milliseconds(5), std::chrono::seconds(1));
}

void HttpServer::Parts::watch(int loop) {
  Timer& timer = *timers[static_cast<std::size_t>(loop)];
  timer.expires_after(watch_period());
  timer.async_wait([this, loop](const boost::system::error_code& stopped) {
    if (stopped) return;
    HttpLoop& home = *loops[static_cast<std::size_t>(loop)];
    const TimePoint now = home.clock.now();
    for (HttpConnection* connection : home.connections)
      connection->check_time(now);
    watch(loop);
  });
}

std::size_t HttpServer::Parts::open_connections() const {
  std::size_t sum = 0;
  for (const auto& loop : loops)
    sum += loop->open.load(std::memory_order_relaxed);
  return sum;
}

HttpServer::HttpServer(HttpOptions options, HttpHandler& handler)
    : parts_(std::make_unique<Parts>(std::move(options), handler)) {}

HttpServer::~HttpServer() {
  stop();
}

Result<void> HttpServer::start() {
  Parts& parts = *parts_;
  GIMBAL_RETURN_IF_ERROR(parts.load_certificate());
  for (int index = 0; index < parts.options.io_threads; ++index) {
    parts.loops.push_back(std::make_unique<HttpLoop>(
        index, parts.options, parts.handler, parts.tls ? &*parts.tls : nullptr, parts.receiving));
    parts.timers.push_back(
        std::make_unique<Parts::Timer>(parts.loops.back()->context.get_executor()));
  }
  GIMBAL_RETURN_IF_ERROR(parts.listen());
  parts.pause.emplace(parts.loops[0]->context.get_executor());
  parts.accept_next();
  for (int index = 0; index < parts.options.io_threads; ++index) {
    parts.watch(index);
    parts.threads.emplace_back([loop = parts.loops[static_cast<std::size_t>(index)].get()] {
      name_thread(fmt::format("http {}", loop->index));
      const auto stay = asio::make_work_guard(loop->context);
      loop->context.run();
    });
  }
  return {};
}

std::uint16_t HttpServer::port() const {
  return parts_->port;
}

void HttpServer::post(int loop, std::function<void()> task) {
  asio::post(parts_->loops[static_cast<std::size_t>(loop)]->context, std::move(task));
}

std::size_t HttpServer::connections() const {
  return parts_->open_connections();
}

int HttpServer::unsent() const {
  int sum = 0;
  for (const auto& loop : parts_->loops)
    sum += loop->unsent.load();
  return sum;
}

void HttpServer::close_idle_connections() {
  for (const auto& loop : parts_->loops) {
    loop->closing.store(true);
    asio::post(loop->context, [home = loop.get()] {
      for (HttpConnection* connection : home->connections)
        connection->close_when_idle();
    });
  }
}

void HttpServer::stop() {
  Parts& parts = *parts_;
  for (const auto& loop : parts.loops)
    loop->context.stop();
  for (std::thread& thread : parts.threads)
    thread.join();
  parts.threads.clear();
  // Timers and the acceptor refer to the loops; the loops own what their handlers hold.
  parts.pause.reset();
  parts.acceptor.reset();
  parts.timers.clear();
  for (const auto& loop : parts.loops) {
    for (const auto& connection : loop->all())
      connection->close();
  }
  parts.loops.clear();
}

}  // namespace gimbal::server
