#include "server/sampling_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/json.h"
#include "server/digest.h"

namespace gimbal::server {
namespace {

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMaxStops = 32;
constexpr std::size_t kMaxStopBytes = 1024;
constexpr std::size_t kMaxListedTokens = 1024;
constexpr float kLeastTemperature = 1e-5F;  // below it: greedy

Result<void> read_numbers(JsonObject& body, const RequestLimits& limits,
                          sched::SamplingParams& sampling) {
  GIMBAL_RETURN_IF_ERROR(body.read("temperature", 0.0, 2.0, sampling.temperature));
  if (sampling.temperature < kLeastTemperature) sampling.temperature = 0.0F;
  GIMBAL_RETURN_IF_ERROR(body.read("top_p", 0.0, 1.0, sampling.top_p));
  if (sampling.top_p <= 0.0F) return body.wrong("top_p", "a number above 0 and up to 1");
  GIMBAL_RETURN_IF_ERROR(body.read("top_k", -1, kMaxInt, sampling.top_k));
  if (sampling.top_k < 0 || sampling.top_k >= limits.vocab_size) sampling.top_k = 0;
  GIMBAL_RETURN_IF_ERROR(body.read("min_p", 0.0, 1.0, sampling.min_p));
  GIMBAL_RETURN_IF_ERROR(body.read("presence_penalty", -2.0, 2.0, sampling.presence_penalty));
  GIMBAL_RETURN_IF_ERROR(body.read("frequency_penalty", -2.0, 2.0, sampling.frequency_penalty));
  GIMBAL_RETURN_IF_ERROR(body.read("repetition_penalty", 0.01, 100.0, sampling.repetition_penalty));
  GIMBAL_RETURN_IF_ERROR(body.read("min_tokens", 0, kMaxInt, sampling.min_tokens));
  return body.read("ignore_eos", sampling.ignore_eos);
}

// A token id written in decimal, as JSON's object keys have to be.
std::optional<TokenId> token_of_key(const std::string& key, std::int64_t vocab_size) {
  if (key.empty() || key.size() > 10 || !std::all_of(key.begin(), key.end(), [](char digit) {
        return digit >= '0' && digit <= '9';
      })) {
    return std::nullopt;
  }
  const std::int64_t id = std::stoll(key);
  if (id >= vocab_size) return std::nullopt;
  return static_cast<TokenId>(id);
}

Result<void> read_logit_bias(JsonObject& body, const RequestLimits& limits,
                             sched::SamplingParams& sampling) {
  const Json* biases = body.raw("logit_bias");
  if (biases == nullptr) return {};
  if (!biases->is_object() || biases->size() > kMaxListedTokens) {
    return body.wrong("logit_bias",
                      fmt::format("an object of at most {} tokens", kMaxListedTokens));
  }
  JsonObject fields(*biases, body.path_of("logit_bias"));
  for (const auto& [key, value] : biases->items()) {
    const auto token = token_of_key(key, limits.vocab_size);
    if (!token) {
      return invalid_argument(
          fmt::format("logit_bias must have token ids from 0 to {} as keys, has {}",
                      limits.vocab_size - 1, excerpt(Json(key))),
          "logit_bias");
    }
    GIMBAL_ASSIGN_OR_RETURN(const auto bias, fields.number(key, -100.0, 100.0));
    if (bias && *bias != 0.0) sampling.logit_bias.emplace_back(*token, static_cast<float>(*bias));
  }
  return {};
}

Result<void> read_stop(JsonObject& body, GenerationRequest& out) {
  const std::string expected = fmt::format(
      "a string, or a list of at most {} strings of 1 to {} bytes", kMaxStops, kMaxStopBytes);
  const Json* stop = body.raw("stop");
  if (stop == nullptr) return {};
  if (stop->is_string()) {
    if (stop->get_ref<const std::string&>().empty()) return {};
    out.stop.push_back(stop->get<std::string>());
  } else if (stop->is_array() && stop->size() <= kMaxStops) {
    for (const Json& text : *stop) {
      if (!text.is_string()) return body.wrong("stop", expected);
      out.stop.push_back(text.get<std::string>());
    }
  } else {
    return body.wrong("stop", expected);
  }
  for (const std::string& text : out.stop) {
    if (text.empty() || text.size() > kMaxStopBytes) return body.wrong("stop", expected);
  }
  return {};
}

Result<void> read_stop_tokens(JsonObject& body, const RequestLimits& limits,
                              sched::SamplingParams& sampling) {
  const Json* tokens = body.raw("stop_token_ids");
  if (tokens == nullptr) return {};
  const std::string expected = fmt::format("a list of at most {} token ids from 0 to {}",
                                           kMaxListedTokens, limits.vocab_size - 1);
  if (!tokens->is_array() || tokens->size() > kMaxListedTokens) {
    return body.wrong("stop_token_ids", expected);
  }
  for (const Json& token : *tokens) {
    if (!token.is_number_unsigned() ||
        token.get<std::uint64_t>() >= static_cast<std::uint64_t>(limits.vocab_size)) {
      return body.wrong("stop_token_ids", expected);
    }
    sampling.stop_token_ids.push_back(token.get<TokenId>());
  }
  return {};
}

Result<void> read_streaming(JsonObject& body, GenerationRequest& out) {
  GIMBAL_RETURN_IF_ERROR(body.read("stream", out.stream));
  const Json* raw = body.raw("stream_options");
  if (raw == nullptr) return {};
  if (!raw->is_object()) return body.wrong("stream_options", "an object");
  if (!out.stream && !raw->empty()) {
    return invalid_argument(
        "stream_options must be absent where stream is not true, is " + excerpt(*raw),
        "stream_options");
  }
  JsonObject options(*raw, "stream_options");
  GIMBAL_RETURN_IF_ERROR(options.read("include_usage", out.include_usage));
  bool continuous = false;
  GIMBAL_RETURN_IF_ERROR(options.read("continuous_usage_stats", continuous));
  if (continuous) {
    return unsupported("stream_options.continuous_usage_stats is not supported, is true",
                       "stream_options.continuous_usage_stats");
  }
  return {};
}

Result<void> read_class_and_keys(JsonObject& body, GenerationRequest& out) {
  GIMBAL_ASSIGN_OR_RETURN(const auto tier, body.string("service_tier"));
  if (tier) {
    if (*tier == "default" || *tier == "priority") {
      out.request_class = sched::RequestClass::kLatencySensitive;
    } else if (*tier == "flex") {
      out.request_class = sched::RequestClass::kBestEffort;
    } else if (*tier != "auto") {
      return body.wrong("service_tier", "auto, default, priority or flex");
    }
  }
  GIMBAL_RETURN_IF_ERROR(body.read("priority", -kMaxInt, kMaxInt, out.priority));
  GIMBAL_ASSIGN_OR_RETURN(const auto salt, body.string("cache_salt"));
  if (salt && salt->empty()) return body.wrong("cache_salt", "a string that is not empty");
  if (salt) out.cache_salt = secure_key(*salt);
  GIMBAL_ASSIGN_OR_RETURN(const auto user, body.string("user"));
  GIMBAL_ASSIGN_OR_RETURN(const auto safety, body.string("safety_identifier"));
  GIMBAL_ASSIGN_OR_RETURN(const auto cache_key, body.string("prompt_cache_key"));
  for (const auto& key : {user, safety, cache_key}) {
    if (key && !key->empty()) out.user_key = secure_key(*key);
  }
  return {};
}

struct UnsupportedField {
  std::string_view name;
  // JSON of the values that ask for nothing, beside null, false, "", [] and {}.
  std::string_view neutral = {};
  std::string_view neutral_too = {};
  bool chat_only = false;
};

constexpr UnsupportedField kUnsupportedFields[] = {
    {.name = "tools"},
    {.name = "tool_choice", .neutral = R"("none")"},
    {.name = "functions"},
    {.name = "function_call", .neutral = R"("none")"},
    {.name = "response_format", .neutral = R"({"type":"text"})"},
    {.name = "modalities", .neutral = R"(["text"])"},
    {.name = "audio"},
    {.name = "prediction"},
    {.name = "web_search_options"},
    {.name = "suffix"},
    {.name = "use_beam_search"},
    {.name = "guided_json"},
    {.name = "guided_regex"},
    {.name = "guided_choice"},
    {.name = "guided_grammar"},
    {.name = "structural_tag"},
    {.name = "structured_outputs"},
    {.name = "logits_processors"},
    {.name = "allowed_token_ids"},
    {.name = "bad_words"},
    {.name = "prompt_logprobs"},
    {.name = "prompt_embeds"},
    {.name = "truncate_prompt_tokens"},
    {.name = "return_token_ids"},
    {.name = "kv_transfer_params"},
    {.name = "mm_processor_kwargs"},
    {.name = "length_penalty", .neutral = "1", .neutral_too = "1.0"},
    {.name = "chat_template", .chat_only = true},
    {.name = "documents", .chat_only = true},
    {.name = "echo", .chat_only = true},
    {.name = "continue_final_message", .chat_only = true},
};

bool asks_for_nothing(const Json& value, const UnsupportedField& field) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string() && value.get_ref<const std::string&>().empty()) return true;
  if (value.is_structured() && value.empty()) return true;
  if (field.neutral.empty()) return false;
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text == field.neutral || text == field.neutral_too;
}

}  // namespace

Result<void> read_shared_fields(JsonObject& body, const RequestLimits& limits,
                                GenerationRequest& out) {
  GIMBAL_RETURN_IF_ERROR(body.read("model", out.model));
  GIMBAL_RETURN_IF_ERROR(body.read("n", 1, 128, out.n));
  GIMBAL_RETURN_IF_ERROR(read_numbers(body, limits, out.sampling));
  GIMBAL_RETURN_IF_ERROR(read_logit_bias(body, limits, out.sampling));
  GIMBAL_RETURN_IF_ERROR(read_stop(body, out));
  GIMBAL_RETURN_IF_ERROR(read_stop_tokens(body, limits, out.sampling));
  GIMBAL_RETURN_IF_ERROR(read_streaming(body, out));
  GIMBAL_RETURN_IF_ERROR(read_class_and_keys(body, out));
  GIMBAL_ASSIGN_OR_RETURN(const auto seed,
                          body.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max()));
  if (seed) out.seed = static_cast<std::uint64_t>(*seed);
  GIMBAL_RETURN_IF_ERROR(body.read("include_stop_str_in_output", out.include_stop_in_output));
  GIMBAL_RETURN_IF_ERROR(body.read("skip_special_tokens", out.skip_special_tokens));
  GIMBAL_RETURN_IF_ERROR(body.read("return_tokens_as_token_ids", out.tokens_as_ids));
  GIMBAL_RETURN_IF_ERROR(body.read("add_special_tokens", out.add_special_tokens));
  // Without effect, because tokens are turned into text natively or tools are refused.
  bool ignored = true;
  GIMBAL_RETURN_IF_ERROR(body.read("spaces_between_special_tokens", ignored));
  return body.read("parallel_tool_calls", ignored);
}

Result<void> refuse_unsupported_fields(JsonObject& body, Endpoint endpoint) {
  for (const UnsupportedField& field : kUnsupportedFields) {
    if (field.chat_only && endpoint != Endpoint::kChat) continue;
    const Json* value = body.raw(field.name);
    if (value == nullptr || asks_for_nothing(*value, field)) continue;
    return unsupported(
        fmt::format("{} is not supported by this server, is {}", field.name, excerpt(*value)),
        std::string(field.name));
  }
  return {};
}

}  // namespace gimbal::server
