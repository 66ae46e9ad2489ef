#include "server/openai_request.h"

#include <fmt/format.h>

#include <limits>

#include "base/json.h"
#include "server/chat_messages.h"
#include "server/sampling_fields.h"

namespace gimbal::server {
namespace {

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();
constexpr int kMaxLogprobs = 20;

Result<Json> parse_body(std::string_view body) {
  GIMBAL_ASSIGN_OR_RETURN(Json root, parse_json(body));
  if (!root.is_object()) {
    return invalid_argument("the request body must be a JSON object, is " + excerpt(root));
  }
  return root;
}

// Token ids of a JSON list; `path` is the list's place.
Result<std::vector<TokenId>> read_tokens(const Json& list, const std::string& path,
                                         std::int64_t vocab_size) {
  std::vector<TokenId> tokens;
  tokens.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_number_unsigned() ||
        list[i].get<std::uint64_t>() >= static_cast<std::uint64_t>(vocab_size)) {
      const std::string place = fmt::format("{}[{}]", path, i);
      return invalid_argument(fmt::format("{} must be a token id from 0 to {}, is {}", place,
                                          vocab_size - 1, excerpt(list[i])),
                              place);
    }
    tokens.push_back(list[i].get<TokenId>());
  }
  return tokens;
}

Result<PromptInput> token_prompt(const Json& list, const std::string& path,
                                 std::int64_t vocab_size) {
  if (list.empty()) return invalid_argument(path + " must not be empty, is []", path);
  PromptInput prompt{.is_tokens = true};
  GIMBAL_ASSIGN_OR_RETURN(prompt.tokens, read_tokens(list, path, vocab_size));
  return prompt;
}

// A string, a list of strings, a list of token ids, or a list of lists of token ids.
Result<std::vector<PromptInput>> read_prompts(JsonObject& body, const RequestLimits& limits) {
  const Json* value = body.raw("prompt");
  const auto wrong = [&body] {
    return body.wrong("prompt",
                      "a string, a list of strings, a list of token ids or a list of such lists");
  };
  if (value == nullptr) return wrong();
  std::vector<PromptInput> prompts;
  if (value->is_string()) {
    prompts.push_back({.text = value->get<std::string>()});
    return prompts;
  }
  if (!value->is_array() || value->empty()) return wrong();
  if (value->front().is_number()) {
    GIMBAL_ASSIGN_OR_RETURN(PromptInput prompt, token_prompt(*value, "prompt", limits.vocab_size));
    prompts.push_back(std::move(prompt));
    return prompts;
  }
  if (value->size() > static_cast<std::size_t>(limits.max_choices)) {
    return invalid_argument(fmt::format("prompt must have at most {} entries, has {}",
                                        limits.max_choices, value->size()),
                            "prompt");
  }
  const bool strings = value->front().is_string();
  for (std::size_t i = 0; i < value->size(); ++i) {
    const Json& entry = (*value)[i];
    if (strings ? !entry.is_string() : !entry.is_array()) return wrong();
    if (strings) {
      prompts.push_back({.text = entry.get<std::string>()});
      continue;
    }
    GIMBAL_ASSIGN_OR_RETURN(PromptInput prompt,
                            token_prompt(entry, fmt::format("prompt[{}]", i), limits.vocab_size));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Result<void> check_counts(const GenerationRequest& request, const RequestLimits& limits) {
  const auto choices = static_cast<std::int64_t>(request.prompts.size()) * request.n;
  if (choices > limits.max_choices) {
    return invalid_argument(fmt::format("n times the number of prompts must be at most {}, is {}",
                                        limits.max_choices, choices),
                            "n");
  }
  if (request.max_tokens && request.sampling.min_tokens > *request.max_tokens) {
    return invalid_argument(fmt::format("min_tokens must be at most max_tokens ({}), is {}",
                                        *request.max_tokens, request.sampling.min_tokens),
                            "min_tokens");
  }
  return {};
}

Result<void> read_max_tokens(JsonObject& body, std::string_view field, std::int64_t least,
                             GenerationRequest& request) {
  GIMBAL_ASSIGN_OR_RETURN(const auto given, body.integer(field, least, kMaxInt));
  if (given) request.max_tokens = static_cast<int>(*given);
  return {};
}

Result<void> read_completion_fields(JsonObject& body, const RequestLimits& limits,
                                    GenerationRequest& request) {
  GIMBAL_RETURN_IF_ERROR(read_shared_fields(body, limits, request));
  GIMBAL_RETURN_IF_ERROR(refuse_unsupported_fields(body, Endpoint::kCompletions));
  GIMBAL_ASSIGN_OR_RETURN(request.prompts, read_prompts(body, limits));
  GIMBAL_ASSIGN_OR_RETURN(const auto best_of, body.integer("best_of", 0, kMaxInt));
  if (best_of && *best_of != request.n) {
    return unsupported(
        fmt::format("best_of must equal n ({}), because choices are not ranked, is {}", request.n,
                    *best_of),
        "best_of");
  }
  GIMBAL_RETURN_IF_ERROR(body.read("echo", request.echo));
  GIMBAL_RETURN_IF_ERROR(body.read("logprobs", 0, kMaxLogprobs, request.sampling.logprobs));
  request.sampling.prompt_logprobs = request.echo && request.sampling.logprobs >= 0;
  GIMBAL_RETURN_IF_ERROR(read_max_tokens(body, "max_tokens", request.echo ? 0 : 1, request));
  return check_counts(request, limits);
}

Result<void> read_chat_logprobs(JsonObject& body, sched::SamplingParams& sampling) {
  bool wanted = false;
  GIMBAL_RETURN_IF_ERROR(body.read("logprobs", wanted));
  GIMBAL_ASSIGN_OR_RETURN(const auto top, body.integer("top_logprobs", 0, kMaxLogprobs));
  if (top && *top > 0 && !wanted) {
    return invalid_argument(
        fmt::format("top_logprobs must be absent where logprobs is not true, is {}", *top),
        "top_logprobs");
  }
  if (wanted) sampling.logprobs = static_cast<int>(top.value_or(0));
  return {};
}

Result<void> read_template_fields(JsonObject& body, ChatInput& chat) {
  GIMBAL_ASSIGN_OR_RETURN(chat.messages_json, read_messages(body));
  GIMBAL_RETURN_IF_ERROR(body.read("add_generation_prompt", chat.add_generation_prompt));
  const Json* kwargs = body.raw("chat_template_kwargs");
  if (kwargs == nullptr || (kwargs->is_object() && kwargs->empty())) return {};
  if (!kwargs->is_object()) return body.wrong("chat_template_kwargs", "an object");
  chat.kwargs_json = kwargs->dump();
  return {};
}

Result<void> read_chat_fields(JsonObject& body, const RequestLimits& limits,
                              GenerationRequest& request) {
  request.add_special_tokens = false;  // the template writes them
  GIMBAL_RETURN_IF_ERROR(read_shared_fields(body, limits, request));
  GIMBAL_RETURN_IF_ERROR(refuse_unsupported_fields(body, Endpoint::kChat));
  GIMBAL_RETURN_IF_ERROR(read_template_fields(body, request.chat));
  GIMBAL_RETURN_IF_ERROR(read_chat_logprobs(body, request.sampling));
  GIMBAL_RETURN_IF_ERROR(read_max_tokens(body, "max_tokens", 1, request));
  GIMBAL_RETURN_IF_ERROR(read_max_tokens(body, "max_completion_tokens", 1, request));
  return check_counts(request, limits);
}

// Fields that were not looked at and do not say null.
std::vector<std::string> unknown_fields(const JsonObject& body) {
  std::vector<std::string> names;
  for (std::string& name : body.unread()) {
    if (body.has(name)) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

Result<GenerationRequest> parse_completion_request(std::string_view text,
                                                   const RequestLimits& limits) {
  GIMBAL_ASSIGN_OR_RETURN(const Json root, parse_body(text));
  JsonObject body(root);
  GenerationRequest request{.endpoint = Endpoint::kCompletions};
  GIMBAL_RETURN_IF_ERROR(read_completion_fields(body, limits, request));
  request.unknown_fields = unknown_fields(body);
  return request;
}

Result<GenerationRequest> parse_chat_request(std::string_view text, const RequestLimits& limits) {
  GIMBAL_ASSIGN_OR_RETURN(const Json root, parse_body(text));
  JsonObject body(root);
  GenerationRequest request{.endpoint = Endpoint::kChat};
  GIMBAL_RETURN_IF_ERROR(read_chat_fields(body, limits, request));
  request.unknown_fields = unknown_fields(body);
  return request;
}

Result<TokenizeRequest> parse_tokenize_request(std::string_view text) {
  GIMBAL_ASSIGN_OR_RETURN(const Json root, parse_body(text));
  JsonObject body(root);
  TokenizeRequest request;
  GIMBAL_RETURN_IF_ERROR(body.read("model", request.model));
  GIMBAL_ASSIGN_OR_RETURN(request.prompt, body.string("prompt"));
  if (!request.prompt) {
    if (!body.has("messages")) return body.wrong("prompt", "a string (or messages be given)");
    request.add_special_tokens = false;
    GIMBAL_RETURN_IF_ERROR(refuse_unsupported_fields(body, Endpoint::kChat));
    GIMBAL_RETURN_IF_ERROR(read_template_fields(body, request.chat));
  }
  GIMBAL_RETURN_IF_ERROR(body.read("add_special_tokens", request.add_special_tokens));
  GIMBAL_RETURN_IF_ERROR(body.read("return_token_strs", request.return_token_strings));
  return request;
}

Result<DetokenizeRequest> parse_detokenize_request(std::string_view text,
                                                   const RequestLimits& limits) {
  GIMBAL_ASSIGN_OR_RETURN(const Json root, parse_body(text));
  JsonObject body(root);
  DetokenizeRequest request;
  GIMBAL_RETURN_IF_ERROR(body.read("model", request.model));
  const Json* tokens = body.raw("tokens");
  if (tokens == nullptr || !tokens->is_array()) return body.wrong("tokens", "a list of token ids");
  GIMBAL_ASSIGN_OR_RETURN(request.tokens, read_tokens(*tokens, "tokens", limits.vocab_size));
  return request;
}

}  // namespace gimbal::server
