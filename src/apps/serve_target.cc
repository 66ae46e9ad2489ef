#include "apps/serve_target.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

#include "apps/number_range.h"
#include "base/json.h"
#include "loadgen/completion_chunk.h"
#include "loadgen/http_get.h"

namespace gimbal::apps {
namespace {

using loadgen::HttpReply;

constexpr Duration kBetweenTries = std::chrono::milliseconds(200);

// GET /v1/models until it is answered with 200; other answers than "not ready yet" end the wait.
Result<HttpReply> wait_for_models(const ServeTarget& target, int timeout_seconds) {
  const SteadyClock clock;
  const TimePoint deadline = clock.now() + std::chrono::seconds(timeout_seconds);
  while (true) {
    auto reply =
        loadgen::http_get(target.url, "/v1/models", target.api_key,
                          std::chrono::seconds(std::max(1, timeout_seconds)), target.headers);
    if (reply.ok() && reply->status == 200) return reply;
    const bool distrusted = !reply.ok() && reply.error().field == "base_url";
    if (distrusted) {
      Error error = reply.error().within(target.url.authority());
      error.message += " (--cacert FILE names whom to trust, --insecure trusts anybody)";
      return error;
    }
    const bool not_yet = !reply.ok() || reply->status == 503;
    if (!not_yet || clock.now() >= deadline) {
      if (!reply.ok()) return reply.error().within(target.url.authority());
      return Error{ErrorCode::kUnavailable,
                   fmt::format("{}: /v1/models answers HTTP {}: {}", target.url.authority(),
                               reply->status, loadgen::error_message(reply->body))};
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

Result<std::string> first_model(const HttpReply& reply) {
  const auto document = parse_json(reply.body);
  if (document.ok() && document->is_object()) {
    const auto data = document->find("data");
    if (data != document->end() && data->is_array() && !data->empty() &&
        data->front().is_object() && data->front().contains("id") &&
        data->front()["id"].is_string()) {
      return data->front()["id"].get<std::string>();
    }
  }
  return invalid_argument("the server lists no model; --model names one", "model");
}

}  // namespace

void TargetFlags::add_to(CLI::App& command) {
  const auto add = [&](const char* flag, auto& value, const char* help) {
    return command.add_option(flag, value, help)->group("Server");
  };
  add("--base-url", base_url, "http://HOST:PORT or https://HOST:PORT, an OpenAI-compatible server");
  add("--host", host, "instead of --base-url")->capture_default_str();
  add("--port", port, "instead of --base-url")
      ->check(number_range(1, 65535))
      ->capture_default_str();
  add("--cacert", tls.cacert,
      "PEM file of the authorities that may have signed the server's certificate; default: the "
      "system's");
  command.add_flag("--insecure", tls.insecure, "take any certificate, for any name")
      ->group("Server");
  add("--model", model, "name in the requests; default: the first that the server lists");
  add("--api-key", api_key, "default: OPENAI_API_KEY, where it is set");
  add("--header", headers, "KEY=VALUE, fields of every request's head")->expected(1, 1000);
  add("--ready-check-timeout-sec", ready_timeout_seconds,
      "wait so long for the server; 0: ask once")
      ->check(number_range(0, 86400))
      ->capture_default_str();
}

Result<ServeTarget> find_target(const TargetFlags& flags) {
  GIMBAL_ASSIGN_OR_RETURN(std::vector<loadgen::HttpHeader> headers,
                          loadgen::parse_headers(flags.headers));
  ServeTarget target{
      .url = {}, .model = flags.model, .api_key = flags.api_key, .headers = std::move(headers)};
  const std::string url =
      flags.base_url.empty() ? fmt::format("http://{}:{}", flags.host, flags.port) : flags.base_url;
  GIMBAL_ASSIGN_OR_RETURN(target.url, loadgen::parse_target_url(url, flags.tls));
  if (target.api_key.empty()) {
    if (const char* key = std::getenv("OPENAI_API_KEY")) target.api_key = key;
  }
  GIMBAL_ASSIGN_OR_RETURN(const HttpReply reply,
                          wait_for_models(target, flags.ready_timeout_seconds));
  if (target.model.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(target.model, first_model(reply));
  }
  return target;
}

}  // namespace gimbal::apps
