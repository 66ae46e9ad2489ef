// Bodies of requests to the server: whatever the bytes, a request that is accepted keeps the
// promises of its struct, and one that is refused gets an error that can be sent.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "server/api_error.h"
#include "server/openai_request.h"

namespace {

using gimbal::server::GenerationRequest;

constexpr gimbal::server::RequestLimits kLimits{
    .max_model_len = 4096, .vocab_size = 1000, .longest_token_bytes = 16, .max_choices = 256};

void check_tokens(std::span<const gimbal::TokenId> tokens) {
  for (const gimbal::TokenId token : tokens)
    GIMBAL_CHECK(token >= 0 && token < kLimits.vocab_size);
}

void check_sampling(const gimbal::sched::SamplingParams& sampling) {
  GIMBAL_CHECK(sampling.temperature >= 0.0F && sampling.temperature <= 2.0F);
  GIMBAL_CHECK(sampling.top_p > 0.0F && sampling.top_p <= 1.0F);
  GIMBAL_CHECK(sampling.top_k >= 0 && sampling.top_k < kLimits.vocab_size);
  GIMBAL_CHECK(sampling.min_p >= 0.0F && sampling.min_p <= 1.0F);
  GIMBAL_CHECK(sampling.presence_penalty >= -2.0F && sampling.presence_penalty <= 2.0F);
  GIMBAL_CHECK(sampling.frequency_penalty >= -2.0F && sampling.frequency_penalty <= 2.0F);
  GIMBAL_CHECK(sampling.repetition_penalty > 0.0F && sampling.repetition_penalty <= 100.0F);
  GIMBAL_CHECK(sampling.logprobs >= -1 && sampling.logprobs <= 20);
  GIMBAL_CHECK(sampling.min_tokens >= 0);
  check_tokens(sampling.stop_token_ids);
  for (const auto& [token, bias] : sampling.logit_bias) {
    check_tokens({&token, 1});
    GIMBAL_CHECK(bias >= -100.0F && bias <= 100.0F);
  }
}

void check_chat(const gimbal::server::ChatInput& chat) {
  const auto messages = gimbal::parse_json(chat.messages_json);
  GIMBAL_CHECK(messages.ok() && messages->is_array() && !messages->empty());
  for (const auto& message : *messages) {
    GIMBAL_CHECK(message.at("role").is_string() && message.at("content").is_string());
  }
  if (chat.kwargs_json.empty()) return;
  const auto kwargs = gimbal::parse_json(chat.kwargs_json);
  GIMBAL_CHECK(kwargs.ok() && kwargs->is_object());
}

void check_promises(const GenerationRequest& request) {
  GIMBAL_CHECK(request.n >= 1 && request.n <= 128);
  GIMBAL_CHECK(static_cast<int>(request.prompts.size()) * request.n <= kLimits.max_choices);
  for (const auto& prompt : request.prompts) {
    check_tokens(prompt.tokens);
    GIMBAL_CHECK(prompt.is_tokens == !prompt.tokens.empty());
  }
  for (const std::string& stop : request.stop)
    GIMBAL_CHECK(!stop.empty());
  if (request.max_tokens) {
    GIMBAL_CHECK(*request.max_tokens >= (request.echo ? 0 : 1));
    GIMBAL_CHECK(*request.max_tokens >= request.sampling.min_tokens);
  }
  GIMBAL_CHECK(request.stream || !request.include_usage);
  check_sampling(request.sampling);
}

void check_error(const gimbal::Error& error) {
  GIMBAL_CHECK(!error.message.empty());
  const auto api = gimbal::server::to_api_error(error);
  GIMBAL_CHECK(api.status == 400);
  const auto shown = gimbal::parse_json(gimbal::server::to_json(api));
  GIMBAL_CHECK(shown.ok() && shown->at("error").at("message").is_string());
}

template <class T, class Check>
void check_result(const gimbal::Result<T>& result, Check check) {
  if (result.ok()) {
    check(*result);
  } else {
    check_error(result.error());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  check_result(gimbal::server::parse_completion_request(body, kLimits), [](const auto& request) {
    GIMBAL_CHECK(!request.prompts.empty());
    check_promises(request);
  });
  check_result(gimbal::server::parse_chat_request(body, kLimits), [](const auto& request) {
    check_chat(request.chat);
    check_promises(request);
  });
  check_result(gimbal::server::parse_tokenize_request(body), [](const auto& request) {
    if (!request.prompt) check_chat(request.chat);
  });
  check_result(gimbal::server::parse_detokenize_request(body, kLimits),
               [](const auto& request) { check_tokens(request.tokens); });
  return 0;
}
