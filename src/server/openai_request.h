#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "sched/request.h"

namespace gimbal::server {

// One prompt, as text or as tokens.
struct PromptInput {
  std::string text;
  std::vector<TokenId> tokens;
  bool is_tokens = false;
};

// A conversation, for the model's chat template.
struct ChatInput {
  std::string messages_json;  // a list of {"role", "content" (a string), further fields}
  std::string kwargs_json;    // an object of template variables; empty: none
  bool add_generation_prompt = true;
};

enum class Endpoint : std::uint8_t { kCompletions, kChat };

// What a request to /v1/completions or /v1/chat/completions asks for.
struct GenerationRequest {
  Endpoint endpoint = Endpoint::kCompletions;
  std::string model;                 // empty: the server's own
  std::vector<PromptInput> prompts;  // kCompletions: at least one
  ChatInput chat;                    // kChat
  bool add_special_tokens = true;    // when text becomes tokens

  int n = 1;
  bool stream = false;
  bool include_usage = false;     // a last chunk with the usage
  bool echo = false;              // the prompt's text before the completion's
  std::optional<int> max_tokens;  // absent: the endpoint's default
  std::optional<std::uint64_t> seed;
  sched::SamplingParams sampling;  // without seed and choice
  std::vector<std::string> stop;
  bool include_stop_in_output = false;
  bool skip_special_tokens = true;
  bool tokens_as_ids = false;  // log probabilities name tokens "token_id:N"

  std::optional<sched::RequestClass> request_class;  // absent: the server's default
  int priority = 0;
  std::uint64_t cache_salt = 0;
  std::uint64_t user_key = 0;
  std::vector<std::string> unknown_fields;  // accepted, without effect
};

struct RequestLimits {
  std::int64_t max_model_len = 0;
  std::int64_t vocab_size = 0;
  std::size_t longest_token_bytes = 1;
  int max_choices = 1024;  // prompts × n
};

// Parse request bodies. Errors name the field and its value: kInvalidArgument for what is wrong,
// kUnsupported for what OpenAI or vLLM have and this server does not. Fields that ask for nothing
// (null, [], the default) are accepted everywhere.
[[nodiscard]] Result<GenerationRequest> parse_completion_request(std::string_view body,
                                                                 const RequestLimits& limits);
[[nodiscard]] Result<GenerationRequest> parse_chat_request(std::string_view body,
                                                           const RequestLimits& limits);

// A request to /tokenize: a text, or a conversation.
struct TokenizeRequest {
  std::string model;
  std::optional<std::string> prompt;
  ChatInput chat;  // where there is no prompt
  bool add_special_tokens = true;
  bool return_token_strings = false;
};
[[nodiscard]] Result<TokenizeRequest> parse_tokenize_request(std::string_view body);

struct DetokenizeRequest {
  std::string model;
  std::vector<TokenId> tokens;
};
[[nodiscard]] Result<DetokenizeRequest> parse_detokenize_request(std::string_view body,
                                                                 const RequestLimits& limits);

}  // namespace gimbal::server
