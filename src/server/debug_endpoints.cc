#include "server/debug_endpoints.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "base/json.h"
#include "cluster/decision_json.h"
#include "cluster/expert_json.h"
#include "server/api_error.h"

namespace gimbal::server {
namespace {

constexpr std::size_t kLastDecisions = 100;

// The value of a field of a query, as it was sent. nullopt: it has no such field.
std::optional<std::string_view> field_of(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view field = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), field.size() + 1));
    if (field.starts_with(name) && field.substr(name.size()).starts_with('='))
      return field.substr(name.size() + 1);
  }
  return std::nullopt;
}

std::vector<RequestId> requests_of(const ServingContext& context, std::string_view id) {
  RequestId::rep number = 0;
  const auto read = std::from_chars(id.data(), id.data() + id.size(), number);
  if (read.ec == std::errc() && read.ptr == id.data() + id.size()) return {RequestId{number}};
  return context.answers.requests_of(id);
}

HttpResponse json(const Json& body) {
  return {.status = 200, .body = body.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

cluster::ExpertInspector* experts_of(const ServingContext& context) {
  return context.inspector != nullptr ? context.inspector->experts() : nullptr;
}

}  // namespace

HttpResponse debug_experts(const ServingContext& context) {
  const cluster::ExpertInspector* const experts = experts_of(context);
  return json(experts != nullptr ? cluster::experts_to_json(*experts)
                                 : Json{{"groups", Json::array()}});
}

HttpResponse debug_swap_map(const ServingContext& context, std::string_view body) {
  const auto refuse = [](const Error& error) {
    return to_response({.status = 400, .message = error.message, .param = error.field});
  };
  cluster::ExpertInspector* const experts = experts_of(context);
  if (experts == nullptr) return refuse(invalid_argument("no engines share experts here"));
  auto request = parse_json(body);
  if (!request.ok()) return refuse(request.error());
  const auto swapped = cluster::swap_expert_map(*experts, std::move(request).value());
  return swapped.ok() ? json(*swapped) : refuse(swapped.error());
}

std::vector<cluster::EngineStatus> engine_status(const ServingContext& context) {
  if (context.inspector != nullptr) return context.inspector->engine_status();
  cluster::EngineStatus status{.engine = EngineId{0}, .snapshot = context.engine.snapshot()};
  status.healthy = context.engine.healthy(&status.failure);
  return {std::move(status)};
}

HttpResponse debug_engines(const ServingContext& context) {
  const cluster::DispatchStatus dispatch = context.inspector != nullptr
                                               ? context.inspector->dispatch_status()
                                               : cluster::DispatchStatus{.rule = "none"};
  return json(cluster::status_to_json(engine_status(context), dispatch));
}

HttpResponse debug_decisions(const ServingContext& context, std::string_view query) {
  const auto id = field_of(query, "request");
  std::vector<cluster::DecisionRecord> records;
  if (!id) {
    if (context.inspector != nullptr) records = context.inspector->last_decisions(kLastDecisions);
  } else if (context.inspector != nullptr) {
    for (const RequestId request : requests_of(context, *id)) {
      for (cluster::DecisionRecord& record : context.inspector->decisions_of(request)) {
        const auto same = [&](const auto& known) { return known.number == record.number; };
        if (std::none_of(records.begin(), records.end(), same))
          records.push_back(std::move(record));
      }
    }
  }
  if (id && records.empty()) {
    return to_response(
        {.status = 404,
         .message = "no decision is known of request " + std::string(id->substr(0, 100))});
  }
  Json decisions = Json::array();
  for (const cluster::DecisionRecord& record : records)
    decisions.push_back(cluster::decision_to_json(record));
  return json({{"decisions", std::move(decisions)}});
}

}  // namespace gimbal::server
