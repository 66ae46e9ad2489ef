#include "server/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <utility>

#include "server/api_error.h"
#include "server/debug_endpoints.h"
#include "server/generation.h"
#include "server/json_text.h"
#include "server/text_endpoints.h"

namespace gimbal::server {
namespace {

enum class Target {
  kHealth,
  kReady,
  kVersion,
  kMetrics,
  kModels,
  kCompletions,
  kChat,
  kTokenize,
  kDetokenize,
  kDebugEngines,
  kDebugExperts,
  kDebugExpertMap,
  kDebugDecisions,
};

constexpr std::string_view kModelPrefix = "/v1/models/";

bool reads(HttpMethod method) {
  return method == HttpMethod::kGet || method == HttpMethod::kHead;
}

HttpResponse json(std::string body) {
  return {.status = 200, .body = std::move(body)};
}

// `text` with %XX as the bytes that they stand for; what is no such sequence stays.
std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

// The engine that a request names by X-data-parallel-rank; -1: it names none.
Result<int> engine_named(std::string_view header, int engines) {
  if (header.empty()) return -1;
  int engine = -1;
  const char* const end = header.data() + header.size();
  const auto [stop, error] = std::from_chars(header.data(), end, engine);
  if (error != std::errc() || stop != end || engine < 0 || engine >= engines) {
    return invalid_argument(
        fmt::format("X-data-parallel-rank must be an integer from 0 to {}, is '{}'", engines - 1,
                    header.substr(0, 40)),
        "X-data-parallel-rank");
  }
  return engine;
}

ApiError unavailable(std::string message) {
  return {.status = 503,
          .message = std::move(message),
          .type = "server_error",
          .code = "unavailable",
          .retry_after_seconds = 1};
}

}  // namespace

struct Api::Route {
  std::string_view path;
  Target target;
  bool posts = false;  // else GET
  bool open = false;   // without an API key
};

const Api::Route Api::kRoutes[] = {
    {.path = "/health", .target = Target::kHealth, .open = true},
    {.path = "/ready", .target = Target::kReady, .open = true},
    {.path = "/version", .target = Target::kVersion, .open = true},
    {.path = "/metrics", .target = Target::kMetrics, .open = true},
    {.path = "/v1/models", .target = Target::kModels},
    {.path = "/v1/completions", .target = Target::kCompletions, .posts = true},
    {.path = "/v1/chat/completions", .target = Target::kChat, .posts = true},
    {.path = "/tokenize", .target = Target::kTokenize, .posts = true},
    {.path = "/detokenize", .target = Target::kDetokenize, .posts = true},
    {.path = "/debug/engines", .target = Target::kDebugEngines},
    {.path = "/debug/decisions", .target = Target::kDebugDecisions},
    {.path = "/debug/experts", .target = Target::kDebugExperts},
    {.path = "/debug/expert-map", .target = Target::kDebugExpertMap, .posts = true},
};

Api::Api(const ServerOptions& options, ServerMetrics& metrics,
         std::function<std::size_t()> connections)
    : options_(options),
      metrics_(metrics),
      connections_(std::move(connections)),
      keys_(options.api_keys) {}

std::unique_ptr<HttpJob> Api::handle(HttpRequest request, HttpExchange& exchange) {
  const std::string cors = cors_headers(request.origin);
  try {
    return serve(request, exchange, cors);
  } catch (const std::exception& cause) {
    HttpResponse response = to_response(internal_error(cause));
    response.extra_headers += cors;
    exchange.respond(std::move(response));
    return nullptr;
  }
}

HttpResponse Api::refuse(int status, std::string_view reason) {
  if (status != kClientClosedRequest) {  // that one was accepted, and counts as aborted
    metrics_.refused(status == 503 ? Refusal::kOverload : Refusal::kInvalid);
  }
  HttpResponse response =
      to_response({.status = status,
                   .message = std::string(reason),
                   .type = status >= 500 ? "server_error" : "invalid_request_error"});
  const auto& origins = options_.cors_origins;
  if (std::find(origins.begin(), origins.end(), "*") != origins.end()) {
    response.extra_headers += "Access-Control-Allow-Origin: *\r\n";
  }
  return response;
}

std::string Api::cors_headers(std::string_view origin) const {
  if (origin.empty()) return {};
  for (const std::string& allowed : options_.cors_origins) {
    if (allowed == "*") return "Access-Control-Allow-Origin: *\r\n";
    if (allowed == origin) {
      return fmt::format("Access-Control-Allow-Origin: {}\r\nVary: Origin\r\n", allowed);
    }
  }
  return {};
}

std::optional<HttpResponse> Api::turn_away(const Route& route, std::string_view path,
                                           const HttpRequest& request, bool cors) {
  if (request.method == HttpMethod::kOptions) {
    return HttpResponse{.status = 204,
                        .content_type = {},
                        .extra_headers = fmt::format(
                            "Allow: {0}, OPTIONS\r\n{1}", route.posts ? "POST" : "GET, HEAD",
                            !cors ? ""
                                  : "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
                                    "Access-Control-Allow-Headers: Authorization, Content-Type, "
                                    "OpenAI-Organization, OpenAI-Project, "
                                    "X-data-parallel-rank\r\n"
                                    "Access-Control-Max-Age: 600\r\n")};
  }
  if (route.posts ? request.method != HttpMethod::kPost : !reads(request.method)) {
    HttpResponse response = to_response(
        {.status = 405,
         .message = fmt::format("{} takes {} only", path, route.posts ? "POST" : "GET")});
    response.extra_headers =
        route.posts ? "Allow: POST, OPTIONS\r\n" : "Allow: GET, HEAD, OPTIONS\r\n";
    return response;
  }
  if (!route.open && !keys_.admit(request.authorization)) {
    metrics_.refused(Refusal::kUnauthorized);
    HttpResponse response = to_response(
        {.status = 401, .message = "the API key is missing or wrong", .code = "invalid_api_key"});
    response.extra_headers = "WWW-Authenticate: Bearer\r\n";
    return response;
  }
  return std::nullopt;
}

std::unique_ptr<HttpJob> Api::serve(HttpRequest& request, HttpExchange& exchange,
                                    const std::string& cors) {
  const auto answer = [&](HttpResponse response) -> std::unique_ptr<HttpJob> {
    response.extra_headers += cors;
    exchange.respond(std::move(response));
    return nullptr;
  };
  const bool one_model = request.path.starts_with(kModelPrefix);
  const std::string_view path =
      one_model ? kModelPrefix.substr(0, kModelPrefix.size() - 1) : std::string_view(request.path);
  const auto* const route = std::find_if(std::begin(kRoutes), std::end(kRoutes),
                                         [&](const Route& known) { return known.path == path; });
  if (route == std::end(kRoutes)) {
    return answer(
        to_response({.status = 404, .message = "no such path: " + request.path.substr(0, 200)}));
  }
  if (auto turned_away = turn_away(*route, path, request, !cors.empty())) {
    return answer(std::move(*turned_away));
  }
  switch (route->target) {
    case Target::kHealth:
      return answer(health());
    case Target::kReady:
      return answer(ready());
    case Target::kVersion:
      return answer(json(fmt::format(R"({{"version":"{}"}})", options_.version)));
    case Target::kMetrics:
      return answer(metrics_text());
    case Target::kModels:
      return answer(models(
          one_model ? percent_decoded(std::string_view(request.path).substr(kModelPrefix.size()))
                    : std::string()));
    case Target::kDebugEngines:
    case Target::kDebugDecisions:
    case Target::kDebugExperts:
    case Target::kDebugExpertMap:
      return answer(debug(*route, request));
    default:
      return serve_model(*route, request, exchange, cors);
  }
}

std::unique_ptr<HttpJob> Api::serve_model(const Route& route, HttpRequest& request,
                                          HttpExchange& exchange, const std::string& cors) {
  ServingContext* const context = context_.load();
  if (context == nullptr || draining_.load()) {
    metrics_.refused(Refusal::kUnavailable);
    HttpResponse response = to_response(
        unavailable(draining_.load() ? "the server is shutting down" : "the model is loading"));
    response.extra_headers += cors;
    exchange.respond(std::move(response));
    return nullptr;
  }
  if (route.target == Target::kTokenize || route.target == Target::kDetokenize) {
    return answer_text(route.target == Target::kTokenize ? answer_tokenize : answer_detokenize,
                       std::move(request.body), exchange, *context, cors);
  }
  const auto engine = engine_named(request.data_parallel_rank, context->engine.limits().engines);
  if (!engine.ok()) {
    metrics_.refused(Refusal::kInvalid);
    HttpResponse response = to_response(to_api_error(engine.error()));
    response.extra_headers += cors;
    exchange.respond(std::move(response));
    return nullptr;
  }
  auto generation = std::make_unique<Generation>(
      route.target == Target::kChat ? Endpoint::kChat : Endpoint::kCompletions, exchange, *context,
      cors);
  generation->start(std::move(request.body), *engine);
  return generation;
}

HttpResponse Api::health() const {
  std::string why;
  const ServingContext* const context = context_.load();
  if (context != nullptr && !context->engine.healthy(&why)) {
    return to_response(
        {.status = 503, .message = why, .type = "server_error", .code = "engine_failed"});
  }
  return json(R"({"status":"ok"})");
}

HttpResponse Api::ready() const {
  const ServingContext* const context = context_.load();
  if (draining_.load()) return to_response(unavailable("the server is shutting down"));
  if (context == nullptr) return to_response(unavailable("the model is loading"));
  std::string why;
  if (!context->engine.healthy(&why)) return to_response(unavailable(std::move(why)));
  return json(R"({"status":"ready"})");
}

HttpResponse Api::metrics_text() const {
  const ServingContext* const context = context_.load();
  ServerGauges gauges{.connections = static_cast<std::int64_t>(connections_())};
  HttpResponse response{.content_type = "text/plain; version=0.0.4; charset=utf-8"};
  if (context == nullptr) {
    response.body = metrics_.expose({}, gauges);
    return response;
  }
  gauges.choices = context->choices.load();
  std::optional<cluster::DispatchStatus> dispatch;
  if (context->insight.inspector != nullptr)
    dispatch = context->insight.inspector->dispatch_status();
  response.body = metrics_.expose(
      {.engines = engine_status(*context),
       .dispatch = dispatch ? &*dispatch : nullptr,
       .experts =
           context->insight.inspector != nullptr ? context->insight.inspector->experts() : nullptr,
       .orders = context->insight.orders != nullptr ? context->insight.orders->order_counts()
                                                    : std::vector<cluster::OrderCounts>()},
      gauges);
  return response;
}

HttpResponse Api::debug(const Route& route, const HttpRequest& request) const {
  const ServingContext* const context = context_.load();
  if (context == nullptr) return to_response(unavailable("the model is loading"));
  switch (route.target) {
    case Target::kDebugEngines:
      return debug_engines(*context);
    case Target::kDebugExperts:
      return debug_experts(*context);
    case Target::kDebugExpertMap:
      return debug_swap_map(*context, request.body);
    default:
      return debug_decisions(*context, request.query);
  }
}

HttpResponse Api::models(std::string_view name) const {
  const ServingContext* const context = context_.load();
  if (context == nullptr) return to_response(unavailable("the model is loading"));
  const auto describe = [&](std::string_view model) {
    std::string text = R"({"id":)";
    append_json_string(text, model);
    fmt::format_to(std::back_inserter(text),
                   R"(,"object":"model","created":{},"owned_by":"gimbal","max_model_len":{}}})",
                   context->started_at, context->limits.max_model_len);
    return text;
  };
  const auto& names = options_.served_model_names;
  if (!name.empty()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return to_response(model_not_found(name));
    }
    return json(describe(name));
  }
  std::string body = R"({"object":"list","data":[)";
  for (const std::string& each : names) {
    if (&each != names.data()) body += ',';
    body += describe(each);
  }
  return json(body + "]}");
}

}  // namespace gimbal::server
