#include "server/prepared_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <span>
#include <utility>

#include "text/incremental_detokenizer.h"

namespace gimbal::server {
namespace {

// vLLM's and OpenAI's default of /v1/completions.
constexpr std::int64_t kDefaultCompletionTokens = 16;

// Sets prompt.max_tokens, or says why prompt and completion do not fit.
std::optional<ApiError> fit(PreparedPrompt& prompt, const GenerationRequest& request,
                            const ServingContext& context, std::string_view field) {
  if (prompt.tokens.empty()) {
    return ApiError{.message = fmt::format("{} must have at least one token, has none", field),
                    .param = std::string(field)};
  }
  const auto length = static_cast<std::int64_t>(prompt.tokens.size());
  const std::int64_t room = context.limits.max_model_len - length;
  const std::int64_t least = request.max_tokens == 0 ? 0 : 1;
  if (room < least) {
    return context_length_exceeded(
        fmt::format("the model's context length is {} tokens, and {} has {}: it must be shorter",
                    context.limits.max_model_len, field, length),
        std::string(field));
  }
  if (request.max_tokens && *request.max_tokens > room) {
    return context_length_exceeded(
        fmt::format("the model's context length is {} tokens; {} has {} and max_tokens asks for "
                    "{} more: at most {} fit",
                    context.limits.max_model_len, field, length, *request.max_tokens, room),
        "max_tokens");
  }
  const std::int64_t by_default =
      request.endpoint == Endpoint::kChat ? room : std::min(room, kDefaultCompletionTokens);
  prompt.max_tokens = request.max_tokens.value_or(static_cast<int>(by_default));
  if (request.sampling.min_tokens > prompt.max_tokens) {
    return ApiError{
        .message = fmt::format("min_tokens must be at most the {} tokens that the answer "
                               "may have, is {}",
                               prompt.max_tokens, request.sampling.min_tokens),
        .param = "min_tokens"};
  }
  return std::nullopt;
}

std::variant<PreparedPrompt, ApiError> prepare_prompt(PromptInput input,
                                                      const GenerationRequest& request,
                                                      const ServingContext& context,
                                                      const std::string& field) {
  PreparedPrompt prompt;
  if (input.is_tokens) {
    prompt.tokens = std::move(input.tokens);
  } else {
    auto tokens = tokens_of(input.text, request.add_special_tokens, context, field);
    if (auto* error = std::get_if<ApiError>(&tokens)) return std::move(*error);
    prompt.tokens = std::move(std::get<0>(tokens));
  }
  if (auto error = fit(prompt, request, context, field)) return std::move(*error);
  if (request.echo) {
    prompt.text = input.is_tokens
                      ? text_of(prompt.tokens, request.skip_special_tokens, context.codec)
                      : std::move(input.text);
  }
  return prompt;
}

Result<GenerationRequest> parse(Endpoint endpoint, std::string_view body,
                                const RequestLimits& limits) {
  return endpoint == Endpoint::kChat ? parse_chat_request(body, limits)
                                     : parse_completion_request(body, limits);
}

}  // namespace

std::variant<std::vector<TokenId>, ApiError> tokens_of(std::string_view text,
                                                       bool add_special_tokens,
                                                       const ServingContext& context,
                                                       std::string_view field) {
  const auto longest = static_cast<std::int64_t>(context.limits.longest_token_bytes);
  const auto bytes = static_cast<std::int64_t>(text.size());
  if (bytes / longest > context.limits.max_model_len) {
    return context_length_exceeded(
        fmt::format("the model's context length is {} tokens of at most {} bytes, and {} has {} "
                    "bytes: it must be shorter",
                    context.limits.max_model_len, longest, field, bytes),
        std::string(field));
  }
  auto tokens = context.codec.encode(text, add_special_tokens);
  if (!tokens.ok()) return to_api_error(tokens.error());
  return std::move(tokens).value();
}

std::string text_of(std::span<const TokenId> tokens, bool skip_special_tokens,
                    const TextCodec& codec) {
  text::IncrementalDetokenizer detokenizer(codec.vocabulary(), skip_special_tokens);
  std::string text;
  for (const TokenId token : tokens)
    detokenizer.push(token, text);
  detokenizer.finish(text);
  return text;
}

namespace {

std::variant<PreparedRequest, ApiError> prepare(Endpoint endpoint, std::string_view body,
                                                const ServingContext& context) {
  auto parsed = parse(endpoint, body, context.limits);
  if (!parsed.ok()) return to_api_error(parsed.error());
  PreparedRequest prepared{.request = std::move(parsed).value()};
  GenerationRequest& request = prepared.request;
  if (!context.serves(request.model)) return model_not_found(request.model);
  std::string field = "prompt";
  if (endpoint == Endpoint::kChat) {
    field = "messages";
    auto text = context.codec.render_chat(
        request.chat.messages_json, {.add_generation_prompt = request.chat.add_generation_prompt,
                                     .kwargs_json = request.chat.kwargs_json});
    if (!text.ok()) return to_api_error(text.error());
    request.prompts.push_back({.text = std::move(text).value()});
  }
  const std::size_t count = request.prompts.size();
  for (std::size_t i = 0; i < count; ++i) {
    auto prompt = prepare_prompt(std::move(request.prompts[i]), request, context,
                                 count == 1 ? field : fmt::format("{}[{}]", field, i));
    if (auto* error = std::get_if<ApiError>(&prompt)) return std::move(*error);
    prepared.prompts.push_back(std::move(std::get<0>(prompt)));
  }
  request.prompts.clear();
  return prepared;
}

}  // namespace

std::variant<PreparedRequest, ApiError> prepare_request(Endpoint endpoint, std::string_view body,
                                                        const ServingContext& context) {
  try {
    return prepare(endpoint, body, context);
  } catch (const std::exception& cause) {
    return internal_error(cause);
  }
}

}  // namespace gimbal::server
