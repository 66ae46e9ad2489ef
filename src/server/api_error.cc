#include "server/api_error.h"

#include <fmt/format.h>

#include "server/json_text.h"

namespace gimbal::server {

ApiError to_api_error(const Error& error) {
  ApiError api{.message = error.message, .param = error.field};
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      break;
    case ErrorCode::kUnsupported:
      api.code = "unsupported";
      break;
    case ErrorCode::kNotFound:
      api.status = 404;
      break;
    case ErrorCode::kResourceExhausted:
      api.status = 429;
      api.type = "rate_limit_error";
      api.code = "rate_limit_exceeded";
      api.retry_after_seconds = 1;
      break;
    case ErrorCode::kUnavailable:
    case ErrorCode::kCancelled:
      api.status = 503;
      api.type = "server_error";
      api.code = "unavailable";
      break;
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      api.status = 500;
      api.type = "server_error";
      api.code = "internal_error";
      break;
  }
  return api;
}

ApiError model_not_found(std::string_view model) {
  return {.status = 404,
          .message = fmt::format("this server has no such model: {}", model.substr(0, 200)),
          .param = "model",
          .code = "model_not_found"};
}

ApiError internal_error(const std::exception& cause) {
  return {.status = 500,
          .message = std::string("internal error: ") + cause.what(),
          .type = "server_error",
          .code = "internal_error"};
}

ApiError context_length_exceeded(std::string message, std::string param) {
  return {.status = 400,
          .message = std::move(message),
          .param = std::move(param),
          .code = "context_length_exceeded"};
}

std::string to_json(const ApiError& error) {
  std::string out = R"({"error":{"message":)";
  append_json_string(out, error.message);
  out += R"(,"type":)";
  append_json_string(out, error.type);
  out += R"(,"param":)";
  if (error.param.empty()) {
    out += "null";
  } else {
    append_json_string(out, error.param);
  }
  out += R"(,"code":)";
  if (error.code.empty()) {
    out += "null";
  } else {
    append_json_string(out, error.code);
  }
  out += "}}";
  return out;
}

HttpResponse to_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = to_json(error)};
  if (error.retry_after_seconds > 0) {
    response.extra_headers = fmt::format("Retry-After: {}\r\n", error.retry_after_seconds);
  }
  return response;
}

}  // namespace gimbal::server
