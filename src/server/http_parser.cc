#include "server/http_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/verb.hpp>

#include "base/check.h"

namespace gimbal::server {
namespace http = boost::beast::http;
namespace {

HttpMethod method_of(http::verb verb) {
  switch (verb) {
    case http::verb::get:
      return HttpMethod::kGet;
    case http::verb::head:
      return HttpMethod::kHead;
    case http::verb::post:
      return HttpMethod::kPost;
    case http::verb::options:
      return HttpMethod::kOptions;
    default:
      return HttpMethod::kOther;
  }
}

HttpRefusal refusal_of(const boost::system::error_code& error) {
  if (error == http::error::body_limit) return {413, "the request body is too large"};
  if (error == http::error::header_limit) return {431, "the request header is too large"};
  return {400, "not an HTTP request that can be read: " + error.message()};
}

// Fills in path and query; an absolute target loses its scheme and host.
void take_target(std::string_view target, HttpRequest& request) {
  if (!target.starts_with('/')) {
    if (const auto scheme = target.find("://"); scheme != std::string_view::npos) {
      const auto slash = target.find('/', scheme + 3);
      target = slash == std::string_view::npos ? "/" : target.substr(slash);
    }
  }
  target = target.substr(0, target.find('#'));
  const auto mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string_view::npos) request.query = target.substr(mark + 1);
}

}  // namespace

struct HttpParser::State {
  http::request_parser<http::string_body> parser;
};

HttpParser::HttpParser(std::size_t max_header_bytes, std::size_t max_body_bytes)
    : state_(std::make_unique<State>()), max_header_bytes_(max_header_bytes) {
  state_->parser.eager(true);
  state_->parser.header_limit(static_cast<std::uint32_t>(max_header_bytes));
  state_->parser.body_limit(max_body_bytes);
}
HttpParser::~HttpParser() = default;
HttpParser::HttpParser(HttpParser&&) noexcept = default;
HttpParser& HttpParser::operator=(HttpParser&&) noexcept = default;

std::size_t HttpParser::put(std::string_view bytes) {
  std::size_t used = 0;
  while (!failed() && !done() && used < bytes.size()) {
    boost::system::error_code error;
    const std::size_t step = state_->parser.put(boost::asio::buffer(bytes.substr(used)), error);
    used += step;
    if (error == http::error::need_more) {
      // Beast bounds neither the line before a chunk nor what follows the last one.
      if (bytes.size() - used > max_header_bytes_) refusal_ = refusal_of(http::error::header_limit);
      break;
    }
    if (error) {
      refusal_ = refusal_of(error);
      break;
    }
    if (step == 0) break;
  }
  if (!failed() && header_done()) refuse_encodings();
  return used;
}

// Nothing here undoes a coding, and a body that is read as if it had none would be misunderstood.
void HttpParser::refuse_encodings() {
  const auto& header = state_->parser.get();
  const std::string_view content(header[http::field::content_encoding]);
  if (!content.empty() && !boost::beast::iequals(content, "identity")) {
    refusal_ = {415, "Content-Encoding must be identity, is '" + std::string(content) + "'"};
  }
  const std::string_view transfer(header[http::field::transfer_encoding]);
  if (!transfer.empty() && !boost::beast::iequals(transfer, "chunked")) {
    refusal_ = {501, "Transfer-Encoding must be chunked, is '" + std::string(transfer) + "'"};
  }
}

bool HttpParser::header_done() const {
  return state_->parser.is_header_done();
}
bool HttpParser::done() const {
  return state_->parser.is_done();
}

std::size_t HttpParser::body_bytes() const {
  return state_->parser.get().body().size();
}

bool HttpParser::wants_continue() const {
  return boost::beast::iequals(state_->parser.get()[http::field::expect], "100-continue");
}

HttpRequest HttpParser::take() {
  GIMBAL_CHECK(done());
  auto message = state_->parser.release();
  HttpRequest request;
  request.method = method_of(message.method());
  take_target(std::string_view(message.target().data(), message.target().size()), request);
  request.authorization = std::string(message[http::field::authorization]);
  request.origin = std::string(message[http::field::origin]);
  request.data_parallel_rank = std::string(message["X-data-parallel-rank"]);
  request.keep_alive = message.keep_alive();
  request.chunked_allowed = message.version() >= 11;
  request.body = std::move(message.body());
  return request;
}

}  // namespace gimbal::server
