#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace gimbal::loadgen {

// A field of a request's head that the operator adds.
struct HttpHeader {
  std::string name;
  std::string value;

  bool operator==(const HttpHeader&) const = default;
};

// "KEY=VALUE", as `vllm bench serve --header` takes it: spaces around both go. Errors: no name,
// what would break the head, and fields that say how a message is framed, which are the client's
// own.
[[nodiscard]] Result<HttpHeader> parse_header(std::string_view text);
[[nodiscard]] Result<std::vector<HttpHeader>> parse_headers(std::span<const std::string> texts);

// The lines of a head: the defaults, each replaced by an added one of the same name (in any case),
// then the other added ones.
[[nodiscard]] std::string header_lines(std::span<const HttpHeader> defaults,
                                       std::span<const HttpHeader> added);

}  // namespace gimbal::loadgen
