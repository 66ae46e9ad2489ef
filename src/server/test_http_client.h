#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace gimbal::server {

// A blocking HTTP client over a loopback socket, for tests: it can also send what no proper client
// would. Every wait has a bound of 20 s, after which it fails (std::runtime_error). One thread.
class TestHttpClient final {
 public:
  explicit TestHttpClient(std::uint16_t port, bool tls = false);
  ~TestHttpClient();
  TestHttpClient(const TestHttpClient&) = delete;
  TestHttpClient& operator=(const TestHttpClient&) = delete;

  struct Response {
    int status = 0;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
  };

  void send(std::string_view bytes);
  void send_request(std::string_view method, std::string_view path, std::string_view body = {},
                    std::string_view headers = {});
  // One whole answer. `with_body` false: of a HEAD request.
  [[nodiscard]] Response read_response(bool with_body = true);
  // The status line and headers alone.
  [[nodiscard]] Response read_head();
  // The payload of the next server-sent event of a chunked stream, without "data: "; nullopt at
  // the stream's end. Requires: read_head().
  [[nodiscard]] std::optional<std::string> read_event();
  // Reads until the server closes; true if it does.
  [[nodiscard]] bool closed_by_server();
  void close();
  // Ends the sending side alone: a FIN, and what the server sends can still be read.
  void end_sending() const;
  // Closes with a reset.
  void reset();
  // Makes the socket's receive buffer small. Call before the server sends much.
  void limit_receive_buffer(int bytes) const;

  [[nodiscard]] Response request(std::string_view method, std::string_view path,
                                 std::string_view body = {}, std::string_view headers = {}) {
    send_request(method, path, body, headers);
    return read_response(method != "HEAD");
  }

 private:
  bool fill();  // false at the end
  [[nodiscard]] std::string take_line();
  [[nodiscard]] std::string take(std::size_t bytes);
  [[nodiscard]] std::optional<std::string> take_chunk();

  int socket_ = -1;
  SSL_CTX* context_ = nullptr;
  SSL* tls_ = nullptr;
  std::string input_;
  std::string events_;  // stream payload not returned yet
  bool stream_over_ = false;
};

}  // namespace gimbal::server
