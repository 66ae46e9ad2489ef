#include "loadgen/http_get.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <optional>

#include "loadgen/http_response_parser.h"

namespace gimbal::loadgen {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t kMaxBodyBytes = std::size_t{16} << 20;

class Get {
 public:
  explicit Get(std::string request) : request_(std::move(request)) {}

  Result<HttpReply> run(const TargetUrl& target, Duration time_limit) {
    error_code error;
    const auto endpoints =
        tcp::resolver(io_).resolve(target.host, std::to_string(target.port), error);
    if (error) return failed("no address of " + target.host, error);
    asio::async_connect(socket_, endpoints, [this](const error_code& failure, const auto&) {
      if (failure) {
        outcome_ = failed("cannot connect", failure);
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
    asio::async_write(socket_, asio::buffer(request_),
                      [this](const error_code& error, std::size_t) {
                        if (error) {
                          outcome_ = failed("cannot send", error);
                        } else {
                          read();
                        }
                      });
  }

  void read() {
    socket_.async_read_some(
        asio::buffer(buffer_), [this](const error_code& error, std::size_t count) {
          const auto taken = parser_.put(std::string_view(buffer_.data(), count), reply_.body);
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
  tcp::socket socket_{io_};
  std::string request_;
  std::array<char, 8192> buffer_{};
  HttpResponseParser parser_;
  HttpReply reply_;
  std::optional<Result<HttpReply>> outcome_;
};

}  // namespace

Result<HttpReply> http_get(const TargetUrl& target, std::string_view path, std::string_view api_key,
                           Duration time_limit, std::span<const HttpHeader> headers) {
  std::vector<HttpHeader> defaults{{"Host", target.authority()}};
  if (!api_key.empty()) defaults.push_back({"Authorization", fmt::format("Bearer {}", api_key)});
  const std::string request = fmt::format("GET {}{} HTTP/1.1\r\nConnection: close\r\n{}\r\n",
                                          target.base_path, path, header_lines(defaults, headers));
  return Get(request).run(target, time_limit);
}

}  // namespace gimbal::loadgen
