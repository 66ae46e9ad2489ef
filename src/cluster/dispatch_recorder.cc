#include "cluster/dispatch_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <istream>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>

#include "base/json.h"
#include "cluster/decision_json.h"
#include "cluster/json_fields.h"
#include "cluster/struct_fields.h"
#include "sched/record_json.h"

namespace gimbal::cluster {

template <class Archive>
void fields(Archive& a, EngineWatchOptions& v) {
  a("fresh_steps", v.fresh_steps);
  a("stale_steps", v.stale_steps);
  a("stale_for", v.stale_for);
  a("first_step_ms", v.first_step_ms);
  a("first_exclusion", v.first_exclusion);
  a("longest_exclusion", v.longest_exclusion);
}

template <class Archive>
void fields(Archive& a, StickyUsersOptions& v) {
  a("most_users", v.most_users);
  a("session", v.session);
  a("return_probability", v.return_probability);
}

template <class Archive>
void fields(Archive& a, DispatcherOptions& v) {
  a("engines", v.engines);
  a("rule", v.rule);
  a("rule_options", v.rule_options);
  a("late", v.late);
  a("late_steps", v.late_steps);
  a("feedback", v.feedback);
  a("order", v.order);
  a("order_options", v.order_options);
  a("prefill_cost", v.prefill_cost);
  a("engines_alike", v.engines_alike);
  a("groups", v.groups);
  a("page_tokens", v.page_tokens);
  a("prefix_caching", v.prefix_caching);
  a("model_salt", v.model_salt);
  a("watch", v.watch);
  a("users", v.users);
  a("log_records", v.log_records);
  a("seed", v.seed);
}

namespace {

constexpr std::string_view kOrders = "orders";  // in a header: places in the queue are recorded
constexpr int kVersion = 1;
constexpr int kMostEngines = 4096;  // of a record that is read

Json prefix_to_json(std::span<const kv::PrefixEvent> events) {
  Json list = Json::array();
  for (const kv::PrefixEvent& event : events)
    list.push_back({static_cast<int>(event.kind), event.hash, event.parent});
  return list;
}

Result<std::vector<kv::PrefixEvent>> prefix_from_json(const Json& json) {
  std::vector<kv::PrefixEvent> events;
  if (!json.is_array()) return invalid_argument("events must be an array, is " + excerpt(json));
  for (const Json& each : json) {
    if (!each.is_array() || each.size() != 3 || !each[0].is_number_unsigned() ||
        each[0].get<std::uint64_t>() > 1 || !each[1].is_number_unsigned() ||
        !each[2].is_number_unsigned()) {
      return invalid_argument("an event must be [0 or 1, hash, parent], is " + excerpt(each));
    }
    events.push_back({static_cast<kv::PrefixEvent::Kind>(each[0].get<int>()),
                      each[1].get<std::uint64_t>(), each[2].get<std::uint64_t>()});
  }
  return events;
}

Json order_to_json(TimePoint now, const sched::OrderDecision& decision) {
  Json json = write_fields(decision);
  json["reason"] = to_string(decision.reason);
  json["time"] = now.time_since_epoch().count();
  return json;
}

// What a line may hold beside its kind.
struct Call {
  std::optional<EngineId> engine;
  std::optional<RequestId> request;
  std::optional<TimePoint> now;
  std::optional<double> pressure;
  std::optional<std::uint64_t> map;
  std::vector<double> by_rank;
  bool healthy = false;
  // Of give_back.
  std::vector<int> tried;
  TimePoint arrival{};
};

template <class Archive>
void fields(Archive& a, Call& v) {
  a("engine", v.engine);
  a("request", v.request);
  a("now", v.now);
  a("pressure", v.pressure);
  a("map", v.map);
  a("by_rank", v.by_rank);
  a("healthy", v.healthy);
  a("tried", v.tried);
  a("arrival", v.arrival);
}

class Replayer {
 public:
  Result<void> header(const Json& json) {
    if (!json.is_object() || !json.contains("dispatch_record") ||
        json.at("dispatch_record") != kVersion || !json.contains("options")) {
      return invalid_argument("not the header of a dispatch record: " + excerpt(json));
    }
    GIMBAL_ASSIGN_OR_RETURN(const auto options, read_fields<DispatcherOptions>(json.at("options")));
    if (options.engines > kMostEngines) {
      return invalid_argument(
          fmt::format("engines must be at most {}, are {}", kMostEngines, options.engines),
          "engines");
    }
    GIMBAL_ASSIGN_OR_RETURN(dispatcher_, Dispatcher::make(options));
    dispatcher_->on_decision(
        [this](const DecisionRecord& record) { decided_.push_back(decision_to_json(record)); });
    if (!json.contains(kOrders)) return {};
    dispatcher_->on_order([this](TimePoint now, const sched::OrderDecision& decision) {
      decided_.push_back(order_to_json(now, decision));
    });
    return {};
  }

  Result<void> line(const Json& json) {
    if (!json.is_object() || !json.contains("call") || !json.at("call").is_string()) {
      return invalid_argument("not a call: " + excerpt(json));
    }
    const std::string kind = json.at("call").get<std::string>();
    if (kind == "decision" || kind == "order") return compare(kind, json);
    if (!decided_.empty()) return invalid_argument("a decision is not in the record");
    ++report_.calls;
    GIMBAL_ASSIGN_OR_RETURN(const Call call, read_fields<Call>(json));
    if (kind == "snapshot" || kind == "prefix" || kind == "pressure" || kind == "map" ||
        kind == "health") {
      return about_engine(kind, call, json);
    }
    if (kind == "first" || kind == "end" || kind == "cancel" || kind == "rows")
      return about_request(kind, call, json);
    if (kind == "submit" || kind == "back") return about_group(kind, call, json);
    if (kind != "next" || !call.now) return invalid_argument("not a call: " + excerpt(json));
    static_cast<void>(dispatcher_->next(*call.now));
    return {};
  }

  Result<DispatchReplay> end() {
    if (!decided_.empty()) return invalid_argument("the last decision is not in the record");
    return report_;
  }

 private:
  Result<void> about_engine(const std::string& kind, const Call& call, const Json& json) {
    const int engines = dispatcher_->options().engines;
    if (!call.engine || call.engine->value() < 0 || call.engine->value() >= engines) {
      return invalid_argument("not one of the engines: " + excerpt(json), "engine");
    }
    if (kind == "pressure") {
      dispatcher_->note_expert_pressure(*call.engine, call.pressure);
    } else if (kind == "map") {
      if (!call.map) return invalid_argument("a map is missing: " + excerpt(json), "map");
      dispatcher_->note_expert_map(*call.engine, *call.map);
    } else if (kind == "health") {
      if (!call.now) return invalid_argument("a time is missing: " + excerpt(json), "now");
      dispatcher_->note_health(*call.engine, call.healthy, *call.now);
    } else if (!json.contains("value")) {
      return invalid_argument("a value is missing: " + excerpt(json), "value");
    } else if (kind == "snapshot") {
      GIMBAL_ASSIGN_OR_RETURN(const auto snapshot, snapshot_from_json(json.at("value")));
      dispatcher_->note_snapshot(*call.engine, snapshot);
    } else {
      GIMBAL_ASSIGN_OR_RETURN(const auto events, prefix_from_json(json.at("value")));
      dispatcher_->note_prefix(*call.engine, events);
    }
    return {};
  }

  Result<void> about_request(const std::string& kind, const Call& call, const Json& json) {
    if (!call.request) return invalid_argument("a request is missing: " + excerpt(json));
    if (kind == "first") dispatcher_->note_first_token(*call.request);
    if (kind == "end") dispatcher_->note_end(*call.request);
    if (kind == "cancel") dispatcher_->cancel_queued(*call.request);
    if (kind != "rows") return {};
    if (!call.map) return invalid_argument("a map is missing: " + excerpt(json), "map");
    if (std::ranges::any_of(call.by_rank, [](double rows) { return rows < 0; })) {
      return invalid_argument("rows must be at least 0: " + excerpt(json), "by_rank");
    }
    dispatcher_->note_expert_rows(*call.request, {.map = *call.map, .by_rank = call.by_rank});
    return {};
  }

  Result<void> about_group(const std::string& kind, const Call& call, const Json& json) {
    std::vector<sched::Request> group;
    if (!json.contains("requests") || !json.at("requests").is_array() ||
        json.at("requests").empty()) {
      return invalid_argument("requests are missing: " + excerpt(json), "requests");
    }
    for (const Json& each : json.at("requests")) {
      GIMBAL_ASSIGN_OR_RETURN(sched::Request request, sched::request_from_json(each));
      const bool valid = kind == "submit" ? known_.insert(request.id).second
                                          : dispatcher_->engine_of(request.id).has_value();
      if (request.prompt.empty() || !valid) {
        return invalid_argument(
            fmt::format("a request must be {} and have a prompt: {}",
                        kind == "submit" ? "new" : "with an engine", excerpt(each)),
            "requests");
      }
      if (!group.empty() && request.request_class != group.front().request_class)
        return invalid_argument("requests of a group must be of one class", "requests");
      if (std::ranges::any_of(group, [&](const auto& other) { return other.id == request.id; }))
        return invalid_argument("a request must come once: " + excerpt(each), "requests");
      if (kind != "submit" && request.pinned_engine >= dispatcher_->options().engines) {
        return invalid_argument("pinned to none of the engines: " + excerpt(each), "pinned_engine");
      }
      group.push_back(std::move(request));
    }
    if (kind == "submit") {
      if (!call.now) return invalid_argument("a time is missing: " + excerpt(json), "now");
      static_cast<void>(dispatcher_->submit(std::move(group), *call.now));  // perhaps refused again
      return {};
    }
    Dispatched back{.engine = call.engine.value_or(EngineId{-1}),
                    .group = std::move(group),
                    .tried = {},
                    .arrival = call.arrival};
    if (back.engine.value() < 0 || back.engine.value() >= dispatcher_->options().engines) {
      return invalid_argument("not one of the engines: " + excerpt(json), "engine");
    }
    for (const int tried : call.tried)
      back.tried.push_back(tried != 0);
    static_cast<void>(dispatcher_->give_back(back));
    return {};
  }

  Result<void> compare(const std::string& kind, const Json& json) {
    if (decided_.empty()) return invalid_argument("a decision of the record was not made");
    const Json made = std::move(decided_.front());
    decided_.pop_front();
    ++(kind == "order" ? report_.orders : report_.decisions);
    if (!json.contains("value") || json.at("value") != made) {
      return invalid_argument("it decides otherwise: " + difference(json, made));
    }
    return {};
  }

  static std::string difference(const Json& json, const Json& made) {
    if (!json.contains("value")) return "no value";
    for (const auto& [name, value] : made.items()) {
      const Json& recorded = json.at("value");
      if (!recorded.is_object() || !recorded.contains(name) || recorded.at(name) != value)
        return name + " is " + excerpt(value);
    }
    return "other fields";
  }

  std::unique_ptr<Dispatcher> dispatcher_;
  std::deque<Json> decided_;
  std::set<RequestId> known_;  // submitted
  DispatchReplay report_;
};

}  // namespace

void DispatchRecorder::header(const DispatcherOptions& options) {
  out_ << Json{{"dispatch_record", kVersion}, {"options", write_fields(options)}, {kOrders, true}}
       << '\n';
}

void DispatchRecorder::snapshot(EngineId engine, const EngineSnapshot& snapshot) {
  out_ << Json{{"call", "snapshot"},
               {"engine", engine.value()},
               {"value", snapshot_to_json(snapshot)}}
       << '\n';
}

void DispatchRecorder::prefix(EngineId engine, std::span<const kv::PrefixEvent> events) {
  out_ << Json{{"call", "prefix"}, {"engine", engine.value()}, {"value", prefix_to_json(events)}}
       << '\n';
}

void DispatchRecorder::expert_pressure(EngineId engine, std::optional<double> pressure) {
  out_ << Json{{"call", "pressure"},
               {"engine", engine.value()},
               {"pressure", pressure ? Json(*pressure) : Json(nullptr)}}
       << '\n';
}

void DispatchRecorder::expert_map(EngineId engine, std::uint64_t fingerprint) {
  out_ << Json{{"call", "map"}, {"engine", engine.value()}, {"map", fingerprint}} << '\n';
}

void DispatchRecorder::expert_rows(RequestId request, const ExpertRows& rows) {
  out_ << Json{{"call", "rows"},
               {"request", request.value()},
               {"map", rows.map},
               {"by_rank", rows.by_rank}}
       << '\n';
}

void DispatchRecorder::health(EngineId engine, bool healthy, TimePoint now) {
  out_ << Json{{"call", "health"},
               {"engine", engine.value()},
               {"healthy", healthy},
               {"now", now.time_since_epoch().count()}}
       << '\n';
}

void DispatchRecorder::first_token(RequestId request) {
  out_ << Json{{"call", "first"}, {"request", request.value()}} << '\n';
}

void DispatchRecorder::end(RequestId request) {
  out_ << Json{{"call", "end"}, {"request", request.value()}} << '\n';
}

void DispatchRecorder::cancel(RequestId request) {
  out_ << Json{{"call", "cancel"}, {"request", request.value()}} << '\n';
}

void DispatchRecorder::submit(const std::vector<sched::Request>& group, TimePoint now) {
  Json requests = Json::array();
  for (const sched::Request& request : group)
    requests.push_back(sched::request_to_json(request));
  out_ << Json{{"call", "submit"},
               {"requests", std::move(requests)},
               {"now", now.time_since_epoch().count()}}
       << '\n';
}

void DispatchRecorder::next(TimePoint now) {
  out_ << Json{{"call", "next"}, {"now", now.time_since_epoch().count()}} << '\n';
}

void DispatchRecorder::give_back(const Dispatched& dispatched) {
  Json requests = Json::array();
  for (const sched::Request& request : dispatched.group)
    requests.push_back(sched::request_to_json(request));
  Json tried = Json::array();
  for (const bool each : dispatched.tried)
    tried.push_back(each ? 1 : 0);
  out_ << Json{{"call", "back"},
               {"engine", dispatched.engine.value()},
               {"requests", std::move(requests)},
               {"tried", std::move(tried)},
               {"arrival", dispatched.arrival.time_since_epoch().count()}}
       << '\n';
}

void DispatchRecorder::decision(const DecisionRecord& record) {
  out_ << Json{{"call", "decision"}, {"value", decision_to_json(record)}} << '\n';
}

void DispatchRecorder::order(TimePoint now, const sched::OrderDecision& decision) {
  out_ << Json{{"call", "order"}, {"value", order_to_json(now, decision)}} << '\n';
}

Result<DispatchReplay> replay_dispatch(std::istream& in) {
  Replayer replayer;
  std::string text;
  std::uint64_t number = 0;
  while (std::getline(in, text)) {
    ++number;
    const auto json = parse_json(text);
    Result<void> result = json.ok() ? Result<void>() : Result<void>(json.error());
    if (json.ok()) result = number == 1 ? replayer.header(*json) : replayer.line(*json);
    if (result.ok()) continue;
    Error error = result.error();
    error.message = fmt::format("line {}: {}", number, error.message);
    return error;
  }
  if (number == 0) return invalid_argument("the record is empty");
  return replayer.end();
}

}  // namespace gimbal::cluster
