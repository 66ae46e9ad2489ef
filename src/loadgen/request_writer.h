#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "loadgen/http_header.h"
#include "loadgen/target_url.h"
#include "workload/prompt_tokens.h"
#include "workload/request_spec.h"

namespace gimbal::loadgen {

enum class PromptForm : std::uint8_t {
  kTokens,  // a list of token ids; a request that has text is sent as text
  kText,    // words, for servers that take no ids
};

// What all requests of a run have in common.
struct RequestOptions {
  std::string endpoint = "/v1/completions";  // or a path that ends in /chat/completions
  std::string model;
  std::string api_key = {};
  std::vector<HttpHeader> headers = {};  // win over what is sent anyway
  PromptForm prompt_form = PromptForm::kTokens;
  workload::TokenSpace tokens = {};
  bool ignore_eos = true;
  std::optional<double> temperature = 0.0;  // absent: the server's default
  // An object whose fields are added to each body, and win.
  nlohmann::json extra_body = nlohmann::json::object();
};
// Errors name the option at fault.
[[nodiscard]] Result<void> validate(const RequestOptions& options);

// The whole HTTP request: streamed, with usage in the last chunk, max_tokens as the workload says,
// `user` where the request has one, and `service_tier` "default" or "flex" where it has a class.
// Requires: validate(options).ok().
[[nodiscard]] std::string write_request(const workload::RequestSpec& request,
                                        const TargetUrl& target, const RequestOptions& options);

}  // namespace gimbal::loadgen
