#include "loadgen/request_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace gimbal::loadgen {
namespace {

using workload::RequestSpec;
using workload::TrafficClass;

bool is_chat(const RequestOptions& options) {
  return options.endpoint.ends_with("/chat/completions");
}

bool fits_in_a_field(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

nlohmann::json common_body(const RequestSpec& request, const RequestOptions& options) {
  nlohmann::json body{{"model", options.model},
                      {"max_tokens", request.output_tokens},
                      {"stream", true},
                      {"stream_options", {{"include_usage", true}}}};
  if (options.ignore_eos) body["ignore_eos"] = true;
  if (options.temperature) body["temperature"] = *options.temperature;
  if (!request.user.empty()) body["user"] = request.user;
  if (request.traffic_class == TrafficClass::kLatencySensitive) body["service_tier"] = "default";
  if (request.traffic_class == TrafficClass::kBestEffort) body["service_tier"] = "flex";
  body.update(options.extra_body);
  return body;
}

// Long lists of ids are written by hand: a document of them costs ten times as much.
std::string list_of(const std::vector<TokenId>& tokens) {
  std::string list = "[";
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    fmt::format_to(std::back_inserter(list), "{}{}", i == 0 ? "" : ",", tokens[i]);
  }
  return list + "]";
}

std::string body_of(const RequestSpec& request, const RequestOptions& options) {
  nlohmann::json body = common_body(request, options);
  const auto dump = [](const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  const bool own_prompt = body.contains("prompt") || body.contains("messages");
  if (own_prompt) return dump(body);
  const bool as_tokens =
      options.prompt_form == PromptForm::kTokens && request.text.empty() && !is_chat(options);
  if (as_tokens) {
    std::string text = dump(body);
    text.pop_back();
    return text + R"(,"prompt":)" + list_of(prompt_tokens(request, options.tokens)) + "}";
  }
  const std::string words = prompt_text(request, options.tokens);
  if (is_chat(options)) {
    body["messages"] = {{{"role", "user"}, {"content", words}}};
  } else {
    body["prompt"] = words;
  }
  return dump(body);
}

}  // namespace

Result<void> validate(const RequestOptions& options) {
  if (!options.endpoint.starts_with('/') || !fits_in_a_field(options.endpoint)) {
    return invalid_argument("an endpoint is a path, not " + options.endpoint, "endpoint");
  }
  if (!fits_in_a_field(options.api_key)) {
    return invalid_argument("an API key has no spaces or control characters", "api_key");
  }
  if (!options.extra_body.is_object()) {
    return invalid_argument("the extra body must be an object", "extra_body");
  }
  return workload::validate(options.tokens);
}

std::string write_request(const RequestSpec& request, const TargetUrl& target,
                          const RequestOptions& options) {
  const std::string body = body_of(request, options);
  std::vector<HttpHeader> defaults{{"Host", target.authority()},
                                   {"Content-Type", "application/json"},
                                   {"Accept", "text/event-stream"}};
  if (!options.api_key.empty()) defaults.push_back({"Authorization", "Bearer " + options.api_key});
  if (request.source) {
    defaults.push_back({"X-data-parallel-rank", fmt::format("{}", *request.source)});
  }
  return fmt::format("POST {}{} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n", target.base_path,
                     options.endpoint, header_lines(defaults, options.headers), body.size()) +
         body;
}

}  // namespace gimbal::loadgen
