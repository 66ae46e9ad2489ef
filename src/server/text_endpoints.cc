#include "server/text_endpoints.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

#include "server/api_error.h"
#include "server/json_text.h"
#include "server/openai_request.h"
#include "server/prepared_request.h"

namespace gimbal::server {
namespace {

class TextJob final : public HttpJob {
 public:
  TextJob(HttpExchange& exchange, ServingContext& context, std::string extra_headers)
      : exchange_(exchange), context_(context), extra_headers_(std::move(extra_headers)) {
    context_.activity.begin();
  }
  ~TextJob() override { context_.activity.end(); }

  [[nodiscard]] std::weak_ptr<TextJob*> handle() const { return self_; }
  void answer(HttpResponse response) {
    response.extra_headers += extra_headers_;
    exchange_.respond(std::move(response));
  }

 private:
  HttpExchange& exchange_;
  ServingContext& context_;
  std::string extra_headers_;
  // For the worker's answer, which may come after the end; owners: this, and for moments the loop.
  std::shared_ptr<TextJob*> self_ = std::make_shared<TextJob*>(this);
};

using Answer = HttpResponse (*)(std::string_view body, const ServingContext& context);

HttpResponse guarded(Answer answer, std::string_view body, const ServingContext& context) {
  try {
    return answer(body, context);
  } catch (const std::exception& cause) {
    return to_response(internal_error(cause));
  }
}

}  // namespace

HttpResponse answer_tokenize(std::string_view body, const ServingContext& context) {
  auto parsed = parse_tokenize_request(body);
  if (!parsed.ok()) return to_response(to_api_error(parsed.error()));
  const TokenizeRequest& request = *parsed;
  if (!context.serves(request.model)) return to_response(model_not_found(request.model));
  std::string text;
  if (request.prompt) {
    text = *request.prompt;
  } else {
    auto rendered = context.codec.render_chat(
        request.chat.messages_json, {.add_generation_prompt = request.chat.add_generation_prompt,
                                     .kwargs_json = request.chat.kwargs_json});
    if (!rendered.ok()) return to_response(to_api_error(rendered.error()));
    text = std::move(rendered).value();
  }
  auto encoded = tokens_of(text, request.add_special_tokens, context, "prompt");
  if (const auto* error = std::get_if<ApiError>(&encoded)) return to_response(*error);
  const auto* tokens = &std::get<0>(encoded);
  HttpResponse response{.body = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":[{}],)",
                                            tokens->size(), context.limits.max_model_len,
                                            fmt::join(*tokens, ","))};
  response.body += R"("token_strs":)";
  if (!request.return_token_strings) {
    response.body += "null}";
    return response;
  }
  response.body += '[';
  for (const TokenId& token : *tokens) {
    if (&token != tokens->data()) response.body += ',';
    append_json_string(response.body, context.codec.vocabulary().token_bytes(token));
  }
  response.body += "]}";
  return response;
}

HttpResponse answer_detokenize(std::string_view body, const ServingContext& context) {
  auto parsed = parse_detokenize_request(body, context.limits);
  if (!parsed.ok()) return to_response(to_api_error(parsed.error()));
  if (!context.serves(parsed->model)) return to_response(model_not_found(parsed->model));
  HttpResponse response{.body = R"({"prompt":)"};
  append_json_string(response.body, text_of(parsed->tokens, false, context.codec));
  response.body += '}';
  return response;
}

std::unique_ptr<HttpJob> answer_text(HttpResponse (*answer)(std::string_view body,
                                                            const ServingContext& context),
                                     std::string body, HttpExchange& exchange,
                                     ServingContext& context, const std::string& extra_headers) {
  auto job = std::make_unique<TextJob>(exchange, context, extra_headers);
  if (body.size() <= context.options.inline_tokenize_bytes) {
    job->answer(guarded(answer, body, context));
    return nullptr;
  }
  const std::size_t bytes = body.size();
  auto work = [weak = job->handle(), answer, body = std::move(body), loop = exchange.loop(),
               &context] {
    if (weak.expired()) return;  // the client has gone
    auto response = std::make_shared<HttpResponse>(guarded(answer, body, context));
    context.post(loop, [weak, response] {
      if (const auto self = weak.lock()) (*self)->answer(std::move(*response));
    });
  };
  if (!context.worker.submit(bytes, std::move(work))) {
    job->answer(to_response({.status = 429,
                             .message = "too many texts wait to be read",
                             .type = "rate_limit_error",
                             .code = "rate_limit_exceeded",
                             .retry_after_seconds = 1}));
    return nullptr;
  }
  return job;
}

}  // namespace gimbal::server
