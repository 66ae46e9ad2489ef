#include "server/test_http_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace gimbal::server {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error("test client: " + what);
}

}  // namespace

TestHttpClient::TestHttpClient(std::uint16_t port, bool tls) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval bound{.tv_sec = 120, .tv_usec = 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail("cannot connect");
  }
  if (!tls) return;
  context_ = SSL_CTX_new(TLS_client_method());
  tls_ = SSL_new(context_);
  SSL_set_fd(tls_, socket_);
  if (SSL_connect(tls_) != 1) fail("no TLS");
}

TestHttpClient::~TestHttpClient() {
  close();
  SSL_free(tls_);
  SSL_CTX_free(context_);
}

void TestHttpClient::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

void TestHttpClient::end_sending() const {
  ::shutdown(socket_, SHUT_WR);
}

void TestHttpClient::reset() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close();
}

void TestHttpClient::limit_receive_buffer(int bytes) const {
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

void TestHttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = tls_ != nullptr
                          ? SSL_write(tls_, bytes.data(), static_cast<int>(bytes.size()))
                          : ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) fail("cannot send");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void TestHttpClient::send_request(std::string_view method, std::string_view path,
                                  std::string_view body, std::string_view headers) {
  send(fmt::format("{} {} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{}\r\n{}", method, path,
                   body.size(), headers, body));
}

bool TestHttpClient::fill() {
  char buffer[16384];
  const auto got = tls_ != nullptr ? SSL_read(tls_, buffer, sizeof buffer)
                                   : ::recv(socket_, buffer, sizeof buffer, 0);
  if (got > 0) {
    input_.append(buffer, static_cast<std::size_t>(got));
    return true;
  }
  if (tls_ == nullptr && got < 0 && errno != ECONNRESET) fail("nothing came in time");
  return false;
}

std::string TestHttpClient::take_line() {
  std::size_t end = 0;
  while ((end = input_.find("\r\n")) == std::string::npos) {
    if (!fill()) fail("the server closed within a line: " + input_);
  }
  std::string line = input_.substr(0, end);
  input_.erase(0, end + 2);
  return line;
}

std::string TestHttpClient::take(std::size_t bytes) {
  while (input_.size() < bytes) {
    if (!fill()) fail("the server closed within a body");
  }
  std::string taken = input_.substr(0, bytes);
  input_.erase(0, bytes);
  return taken;
}

TestHttpClient::Response TestHttpClient::read_head() {
  Response response;
  const std::string status = take_line();
  if (!status.starts_with("HTTP/1.1 ")) fail("no status line: " + status);
  response.status = std::stoi(status.substr(9));
  for (std::string line = take_line(); !line.empty(); line = take_line()) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) fail("not a header: " + line);
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    response.headers[name] = line.substr(colon + 2);
  }
  events_.clear();
  stream_over_ = false;
  return response;
}

TestHttpClient::Response TestHttpClient::read_response(bool with_body) {
  Response response = read_head();
  if (!with_body) return response;
  if (response.headers.contains("transfer-encoding")) {
    while (auto chunk = take_chunk())
      response.body += *chunk;
  } else if (const auto length = response.headers.find("content-length");
             length != response.headers.end()) {
    response.body = take(std::stoul(length->second));
  }
  return response;
}

std::optional<std::string> TestHttpClient::take_chunk() {
  const std::size_t size = std::stoul(take_line(), nullptr, 16);
  std::string chunk = take(size);
  if (take(2) != "\r\n") fail("a chunk does not end");
  if (size == 0) return std::nullopt;
  return chunk;
}

std::optional<std::string> TestHttpClient::read_event() {
  std::size_t end = 0;
  while ((end = events_.find("\n\n")) == std::string::npos) {
    if (stream_over_) return std::nullopt;
    if (auto chunk = take_chunk()) {
      events_ += *chunk;
    } else {
      stream_over_ = true;
    }
  }
  std::string event = events_.substr(0, end);
  events_.erase(0, end + 2);
  if (!event.starts_with("data: ")) fail("not an event: " + event);
  return event.substr(6);
}

bool TestHttpClient::closed_by_server() {
  while (fill()) {
  }
  return true;
}

}  // namespace gimbal::server
