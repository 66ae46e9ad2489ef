#include "loadgen/http_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "loadgen/http_text.h"

namespace gimbal::loadgen {
namespace {

constexpr std::array<std::string_view, 5> kFraming{"Content-Length", "Transfer-Encoding",
                                                   "Connection", "Expect", "Upgrade"};

// A token of RFC 9110, 5.6.2.
bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c < 0x80 && std::isalnum(c) != 0) ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool is_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); });
}

}  // namespace

Result<HttpHeader> parse_header(std::string_view text) {
  const auto wrong = [&](std::string_view what) {
    return invalid_argument(fmt::format("--header {}", what), "header");
  };
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) {
    return wrong(fmt::format("is KEY=VALUE, not {}", text));
  }
  HttpHeader header{.name = std::string(trimmed(text.substr(0, equals))),
                    .value = std::string(trimmed(text.substr(equals + 1)))};
  if (!is_name(header.name)) return wrong(fmt::format("has no name that HTTP takes: {}", text));
  if (!is_value(header.value)) return wrong("has control characters in " + header.name);
  for (const std::string_view own : kFraming) {
    if (equal_ignoring_case(own, header.name)) {
      return wrong(fmt::format("cannot set {}, which is the client's own", own));
    }
  }
  return header;
}

Result<std::vector<HttpHeader>> parse_headers(std::span<const std::string> texts) {
  std::vector<HttpHeader> headers;
  for (const std::string& text : texts) {
    GIMBAL_ASSIGN_OR_RETURN(HttpHeader header, parse_header(text));
    headers.push_back(std::move(header));
  }
  return headers;
}

std::string header_lines(std::span<const HttpHeader> defaults, std::span<const HttpHeader> added) {
  std::string lines;
  for (const HttpHeader& header : defaults) {
    const bool replaced = std::any_of(added.begin(), added.end(), [&](const HttpHeader& other) {
      return equal_ignoring_case(other.name, header.name);
    });
    if (!replaced) lines += fmt::format("{}: {}\r\n", header.name, header.value);
  }
  for (const HttpHeader& header : added)
    lines += fmt::format("{}: {}\r\n", header.name, header.value);
  return lines;
}

}  // namespace gimbal::loadgen
