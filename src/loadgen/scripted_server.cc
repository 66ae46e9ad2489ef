#include "loadgen/scripted_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"

namespace gimbal::loadgen {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::string_view kModels = R"({"object":"list","data":[{"id":"scripted"}]})";

std::string chunk(const std::string& payload) {
  return fmt::format("{:x}\r\ndata: {}\n\n\r\n", payload.size() + 8, payload);
}

}  // namespace

class ScriptedServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(ScriptedServer& server, tcp::socket socket)
      : server_(server), socket_(std::move(socket)) {}

  void start() {
    if (!server_.tls_) return read_head();
    tls_.emplace(socket_, *server_.tls_);
    tls_->async_handshake(asio::ssl::stream_base::server,
                          [self = shared_from_this()](const error_code& error) {
                            if (!error) self->read_head();
                          });
  }

  void read_head() {
    on_stream([this](auto& stream) {
      asio::async_read_until(
          stream, asio::dynamic_buffer(input_), "\r\n\r\n",
          [self = shared_from_this()](const error_code& error, std::size_t count) {
            if (!error) self->on_head(count);
          });
    });
  }

  void answer() {
    if (user_ == "silent") return server_.silent_.push_back(shared_from_this());
    if (user_ == "garbage") return write("SSH-2.0\r\n\r\n", false);
    if (user_ == "refused") {
      return write(
          "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 28\r\n\r\n"
          R"({"error":{"message":"full"}})",
          true);
    }
    const bool keep = server_.options_.keep_alive;
    write_part(
        fmt::format("HTTP/1.1 200 OK\r\nConnection: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                    keep ? "keep-alive" : "close"));
  }

 private:
  void on_head(std::size_t head_bytes) {
    if (input_.starts_with("GET")) {
      input_.erase(0, head_bytes);
      return write(
          fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", kModels.size(), kModels),
          true);
    }
    const auto field = input_.find("Content-Length: ");
    const std::size_t length = std::stoul(input_.substr(field + 16));
    const std::size_t missing =
        head_bytes + length > input_.size() ? head_bytes + length - input_.size() : 0;
    on_stream([&](auto& stream) {
      asio::async_read(
          stream, asio::dynamic_buffer(input_), asio::transfer_exactly(missing),
          [self = shared_from_this(), head_bytes, length](const error_code& error, std::size_t) {
            if (error) return;
            const auto body = parse_json(std::string_view(self->input_).substr(head_bytes, length));
            self->input_.erase(0, head_bytes + length);
            if (body.ok()) self->on_request(*body);
          });
    });
  }

  void on_request(const Json& body) {
    user_ = body.value("user", std::string());
    tokens_ = body["max_tokens"].get<int>();
    prompt_tokens_ = static_cast<int>(body["prompt"].size());
    written_ = 0;
    server_.request_open(*this);
  }

  // Writes one part of a stream, and the next when it is out: each token is a write of its own.
  void write_part(std::string part) {
    output_ = std::move(part);
    on_stream([this](auto& stream) {
      asio::async_write(stream, asio::buffer(output_),
                        [self = shared_from_this()](const error_code& error, std::size_t) {
                          if (!error) self->next_part();
                        });
    });
  }

  void next_part() {
    if (user_ == "broken" && written_ == 2) {
      server_.request_closed();
      socket_.close();
      return;
    }
    if (written_ < tokens_) {
      ++written_;
      return write_part(chunk(R"({"choices":[{"text":"x"}]})"));
    }
    write(chunk(fmt::format(
              R"({{"choices":[],"usage":{{"prompt_tokens":{},"completion_tokens":{}}}}})",
              prompt_tokens_, tokens_)) +
              chunk("[DONE]") + "0\r\n\r\n",
          true);
  }

  // Writes the end of an answer; then reads the next request.
  void write(std::string end, bool keep) {
    output_ = std::move(end);
    if (!user_.empty() || tokens_ > 0) server_.request_closed();
    on_stream([&](auto& stream) {
      asio::async_write(stream, asio::buffer(output_),
                        [self = shared_from_this(), keep](const error_code& error, std::size_t) {
                          if (error) return;
                          if (keep && self->server_.options_.keep_alive) return self->read_head();
                          self->socket_.close();
                        });
    });
  }

  template <class Use>
  void on_stream(Use use) {
    if (tls_) {
      use(*tls_);
    } else {
      use(socket_);
    }
  }

  ScriptedServer& server_;
  tcp::socket socket_;
  std::optional<asio::ssl::stream<tcp::socket&>> tls_;
  std::string input_;
  std::string output_;
  std::string user_;
  int tokens_ = 0;
  int prompt_tokens_ = 0;
  int written_ = 0;
};

ScriptedServer::ScriptedServer(Options options)
    : options_(std::move(options)),
      acceptor_(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
  if (!options_.certificate.empty()) {
    tls_.emplace(asio::ssl::context::tls_server);
    tls_->use_certificate_chain_file(options_.certificate);
    tls_->use_private_key_file(options_.certificate, asio::ssl::context::pem);
  }
  accept();
  thread_ = std::thread([this] { io_.run(); });
}

ScriptedServer::~ScriptedServer() {
  io_.stop();
  thread_.join();
  held_.clear();
  silent_.clear();
}

TargetUrl ScriptedServer::url() const {
  return {.host = "127.0.0.1", .port = port(), .base_path = ""};
}

void ScriptedServer::accept() {
  acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
    if (error) return;
    ++counters_.connections;
    socket.set_option(tcp::no_delay(true));
    std::make_shared<Session>(*this, std::move(socket))->start();
    accept();
  });
}

void ScriptedServer::request_open(Session& session) {
  ++counters_.requests;
  ++open_;
  counters_.most_open = std::max(counters_.most_open.load(), open_);
  held_.push_back(session.shared_from_this());
  held_once_ = held_once_ || open_ >= options_.hold_until;
  if (!held_once_) return;
  for (const auto& held : std::exchange(held_, {}))
    held->answer();
}

}  // namespace gimbal::loadgen
