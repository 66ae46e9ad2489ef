#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/http_message.h"

namespace gimbal::server {

// An error as OpenAI's API shows it: {"error": {message, type, param, code}}.
struct ApiError {
  int status = 400;
  std::string message;
  std::string_view type = "invalid_request_error";
  std::string param = {};       // the field at fault; empty: null
  std::string_view code = {};   // empty: null
  int retry_after_seconds = 0;  // > 0: sent as Retry-After
};

// The status, type and code that stand for an error of ours.
[[nodiscard]] ApiError to_api_error(const Error& error);

[[nodiscard]] ApiError model_not_found(std::string_view model);
// Of what a third party (JSON, Python) has thrown without documenting it.
[[nodiscard]] ApiError internal_error(const std::exception& cause);
[[nodiscard]] ApiError context_length_exceeded(std::string message, std::string param);

// The JSON document. Also what an error event carries in mid-stream.
[[nodiscard]] std::string to_json(const ApiError& error);
[[nodiscard]] HttpResponse to_response(const ApiError& error);

}  // namespace gimbal::server
