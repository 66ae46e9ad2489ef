#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "loadgen/http_header.h"
#include "loadgen/target_url.h"

namespace gimbal::loadgen {

struct HttpReply {
  int status = 0;
  std::string body;
};

// One GET, on a connection of its own; blocks the calling thread. `path` comes behind the URL's
// base. An empty key sends none; `headers` win over what is sent anyway. Errors: no connection, no
// whole answer within the time limit; kInvalidArgument, a certificate that is not accepted.
[[nodiscard]] Result<HttpReply> http_get(const TargetUrl& target, std::string_view path,
                                         std::string_view api_key, Duration time_limit,
                                         std::span<const HttpHeader> headers = {});

}  // namespace gimbal::loadgen
