#include "loadgen/target_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "loadgen/tls_client.h"

namespace gimbal::loadgen {
namespace {

Error wrong_url(std::string_view url, std::string_view reason) {
  return invalid_argument(fmt::format("{}: {}", reason, url), "base_url");
}

bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

Result<std::uint16_t> parse_port(std::string_view text, std::string_view url) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > 65535) {
    return wrong_url(url, "a port is from 1 to 65535");
  }
  return static_cast<std::uint16_t>(port);
}

}  // namespace

std::string TargetUrl::authority() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

Result<TargetUrl> parse_target_url(std::string_view url) {
  return parse_target_url(url, {});
}

Result<TargetUrl> parse_target_url(std::string_view url, const TlsOptions& tls) {
  constexpr std::string_view kPlain = "http://";
  constexpr std::string_view kSecure = "https://";
  const bool secure = url.starts_with(kSecure);
  if (!secure && !url.starts_with(kPlain)) {
    return wrong_url(url, "a URL begins with http:// or https://");
  }
  if (!secure && (!tls.cacert.empty() || tls.insecure)) {
    return wrong_url(url, "--cacert and --insecure are for https");
  }
  std::string_view rest = url.substr(secure ? kSecure.size() : kPlain.size());
  if (!is_plain(rest)) return wrong_url(url, "a URL has no spaces or control characters");
  if (rest.find_first_of("?#@") != std::string_view::npos) {
    return wrong_url(url, "a base URL has no user, query or fragment");
  }
  TargetUrl target;
  if (secure) target.port = 443;
  const auto slash = rest.find('/');
  if (slash != std::string_view::npos) target.base_path = rest.substr(slash);
  while (target.base_path.ends_with('/'))
    target.base_path.pop_back();
  rest = rest.substr(0, slash);
  std::string_view port;
  if (rest.starts_with('[')) {
    const auto close = rest.find(']');
    if (close == std::string_view::npos) return wrong_url(url, "a bracket does not close");
    target.host = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
    if (!rest.empty() && !rest.starts_with(':'))
      return wrong_url(url, "a port comes after the host");
    port = rest.empty() ? rest : rest.substr(1);
    if (!rest.empty() && port.empty()) return wrong_url(url, "a port is from 1 to 65535");
  } else {
    const auto colon = rest.find(':');
    target.host = rest.substr(0, colon);
    if (colon != std::string_view::npos) {
      port = rest.substr(colon + 1);
      if (port.empty()) return wrong_url(url, "a port is from 1 to 65535");
    }
  }
  if (target.host.empty()) return wrong_url(url, "a URL names a host");
  if (!port.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(target.port, parse_port(port, url));
  }
  if (secure) {
    GIMBAL_ASSIGN_OR_RETURN(target.tls, TlsClient::make(tls));
  }
  return target;
}

}  // namespace gimbal::loadgen
