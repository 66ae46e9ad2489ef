#include "loadgen/http_get.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "loadgen/client_stream.h"
#include "loadgen/http_response_parser.h"

namespace gimbal::loadgen {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t kMaxBodyBytes = std::size_t{16} << 20;

class Get {
 public:
  Get(const TargetUrl& target, std::string request)
      : target_(target),
        stream_(io_, target),
        request_(std::make_shared<const std::string>(std::move(request))) {}

  Result<HttpReply> run(Duration time_limit) {
    error_code error;
    const auto endpoints =
        tcp::resolver(io_).resolve(target_.host, std::to_string(target_.port), error);
    if (error) return failed("no address of " + target_.host, error);
    stream_.open(endpoints, [this](const std::optional<Error>& failure) {
      if (failure) {
        outcome_ = *failure;
      } else {
        write();
      }
    });
    io_.run_for(time_limit);
    if (!outcome_) return Error{ErrorCode::kUnavailable, "no answer within the time limit"};
    return *outcome_;
  }

 private:
  static Error failed(const std::string& what, const error_code& error) {
    return {ErrorCode::kUnavailable, what + ": " + error.message()};
  }

  void write() {
    stream_.write(request_, [this](const error_code& error) {
      if (error) {
        outcome_ = failed("cannot send", error);
      } else {
        read();
      }
    });
  }

  void read() {
    stream_.read_some([this](const error_code& error, std::string_view bytes) {
      const auto taken = parser_.put(bytes, reply_.body);
      if (!taken.ok()) {
        outcome_ = taken.error();
      } else if (reply_.body.size() > kMaxBodyBytes) {
        outcome_ = invalid_argument("an answer is too long");
      } else if (error && !parser_.end().ok()) {
        outcome_ = failed("connection lost", error);
      } else if (parser_.done()) {
        reply_.status = parser_.status();
        outcome_ = std::move(reply_);
      } else {
        read();
      }
    });
  }

  asio::io_context io_{1};
  const TargetUrl& target_;
  ClientStream stream_;
  std::shared_ptr<const std::string> request_;  // owners: this, and its write
  HttpResponseParser parser_;
  HttpReply reply_;
  std::optional<Result<HttpReply>> outcome_;
};

}  // namespace

Result<HttpReply> http_get(const TargetUrl& target, std::string_view path, std::string_view api_key,
                           Duration time_limit, std::span<const HttpHeader> headers) {
  std::vector<HttpHeader> defaults{{"Host", target.authority()}};
  if (!api_key.empty()) defaults.push_back({"Authorization", fmt::format("Bearer {}", api_key)});
  std::string request = fmt::format("GET {}{} HTTP/1.1\r\nConnection: close\r\n{}\r\n",
                                    target.base_path, path, header_lines(defaults, headers));
  return Get(target, std::move(request)).run(time_limit);
}

}  // namespace gimbal::loadgen
