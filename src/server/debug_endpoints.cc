#include "server/debug_endpoints.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "base/json.h"
#include "cluster/decision_json.h"
#include "cluster/expert_json.h"
#include "cluster/order_log.h"
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

struct Decisions {
  std::vector<cluster::DecisionRecord> dispatches;
  std::vector<cluster::OrderRecord> orders;
};

Decisions last_decisions(const ServingContext& context) {
  const auto& [inspector, orders] = context.insight;
  Decisions found;
  if (inspector != nullptr) found.dispatches = inspector->last_decisions(kLastDecisions);
  if (orders != nullptr) found.orders = orders->last_orders(kLastDecisions);
  return found;
}

// By the id of an answer, or an engine's number of a request. Requests of a group share decisions.
Decisions decisions_of(const ServingContext& context, std::string_view id) {
  const auto& [inspector, orders] = context.insight;
  Decisions found;
  for (const RequestId request : requests_of(context, id)) {
    if (orders != nullptr) {
      for (cluster::OrderRecord& record : orders->orders_of(request))
        found.orders.push_back(std::move(record));
    }
    if (inspector == nullptr) continue;
    for (cluster::DecisionRecord& record : inspector->decisions_of(request)) {
      const auto same = [&](const auto& known) { return known.number == record.number; };
      if (std::ranges::none_of(found.dispatches, same))
        found.dispatches.push_back(std::move(record));
    }
  }
  return found;
}

cluster::ExpertInspector* experts_of(const ServingContext& context) {
  return context.insight.inspector != nullptr ? context.insight.inspector->experts() : nullptr;
}

}  // namespace

HttpResponse debug_experts(const ServingContext& context) {
  const cluster::ExpertInspector* const experts = experts_of(context);
  Json shown =
      experts != nullptr ? cluster::experts_to_json(*experts) : Json{{"groups", Json::array()}};
  shown["sources"] = cluster::sources_to_json(engine_status(context));
  return json(std::move(shown));
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
  if (context.insight.inspector != nullptr) return context.insight.inspector->engine_status();
  cluster::EngineStatus status{.engine = EngineId{0},
                               .snapshot = context.engine.snapshot(),
                               .expert_work = context.engine.expert_work()};
  status.healthy = context.engine.healthy(&status.failure);
  return {std::move(status)};
}

HttpResponse debug_engines(const ServingContext& context) {
  const cluster::DispatchStatus dispatch = context.insight.inspector != nullptr
                                               ? context.insight.inspector->dispatch_status()
                                               : cluster::DispatchStatus{.rule = "none"};
  return json(cluster::status_to_json(engine_status(context), dispatch));
}

HttpResponse debug_decisions(const ServingContext& context, std::string_view query) {
  const auto id = field_of(query, "request");
  const Decisions found = id ? decisions_of(context, *id) : last_decisions(context);
  if (id && found.dispatches.empty() && found.orders.empty()) {
    return to_response(
        {.status = 404,
         .message = "no decision is known of request " + std::string(id->substr(0, 100))});
  }
  Json dispatches = Json::array();
  for (const cluster::DecisionRecord& record : found.dispatches)
    dispatches.push_back(cluster::decision_to_json(record));
  Json orders = Json::array();
  for (const cluster::OrderRecord& record : found.orders)
    orders.push_back(cluster::order_to_json(record));
  return json({{"decisions", std::move(dispatches)}, {"orders", std::move(orders)}});
}

}  // namespace gimbal::server
