#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "server/http_message.h"
#include "server/serving_context.h"

namespace gimbal::server {

// The answers of /tokenize and /detokenize, in vLLM's shape. May take long where the body is
// large. Thread-safe.
[[nodiscard]] HttpResponse answer_tokenize(std::string_view body, const ServingContext& context);
[[nodiscard]] HttpResponse answer_detokenize(std::string_view body, const ServingContext& context);

// Answers with what `answer` makes of the body: at once where the body is small (null is
// returned), else on the worker thread.
[[nodiscard]] std::unique_ptr<HttpJob> answer_text(
    HttpResponse (*answer)(std::string_view body, const ServingContext& context), std::string body,
    HttpExchange& exchange, ServingContext& context, const std::string& extra_headers);

}  // namespace gimbal::server
