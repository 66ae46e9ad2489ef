#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_message.h"

namespace gimbal::server {

// Why a request cannot be served: the status to answer with, and the reason for people.
struct HttpRefusal {
  int status = 400;
  std::string reason;
};

// Reads one HTTP/1 request from bytes as they come. One thread.
class HttpParser {
 public:
  HttpParser(std::size_t max_header_bytes, std::size_t max_body_bytes);
  ~HttpParser();
  HttpParser(HttpParser&&) noexcept;
  HttpParser& operator=(HttpParser&&) noexcept;

  // Takes in the next bytes and returns how many it has used; what is left must be offered again,
  // with more behind it: at most the bound of the header, which lines between chunks share. Uses
  // nothing after done() or failed().
  [[nodiscard]] std::size_t put(std::string_view bytes);

  [[nodiscard]] bool header_done() const;
  [[nodiscard]] bool done() const;
  [[nodiscard]] bool failed() const { return refusal_.has_value(); }
  [[nodiscard]] const HttpRefusal& refusal() const { return *refusal_; }
  // Of the body, so far.
  [[nodiscard]] std::size_t body_bytes() const;
  // The client waits for "100 Continue" before it sends the body. Requires: header_done().
  [[nodiscard]] bool wants_continue() const;
  // Requires: done().
  [[nodiscard]] HttpRequest take();

 private:
  void refuse_encodings();

  struct State;
  std::unique_ptr<State> state_;
  std::size_t max_header_bytes_;
  std::optional<HttpRefusal> refusal_;
};

}  // namespace gimbal::server
