#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gimbal::loadgen {

// Where a server is: "http://host:port/base". Value type.
struct TargetUrl {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without brackets
  std::uint16_t port = 80;
  std::string base_path;  // "" or "/something", without a slash at the end

  // What goes into the Host field.
  [[nodiscard]] std::string authority() const;
};

// Errors: https (this client has no TLS), user names, queries, and what is no URL.
[[nodiscard]] Result<TargetUrl> parse_target_url(std::string_view url);

}  // namespace gimbal::loadgen
