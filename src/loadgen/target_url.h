#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gimbal::loadgen {

class TlsClient;
struct TlsOptions;

// Where a server is: "http://host:port/base" or "https://host:port/base". Value type.
struct TargetUrl {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without brackets
  std::uint16_t port = 80;
  std::string base_path;                     // "" or "/something", without a slash at the end
  std::shared_ptr<TlsClient> tls = nullptr;  // https; owners: the copies of this. Null: http

  // What goes into the Host field.
  [[nodiscard]] std::string authority() const;
};

// Errors: user names, queries, and what is no URL; `tls` where the URL is not https, and as
// TlsClient::make.
[[nodiscard]] Result<TargetUrl> parse_target_url(std::string_view url);
[[nodiscard]] Result<TargetUrl> parse_target_url(std::string_view url, const TlsOptions& tls);

}  // namespace gimbal::loadgen
