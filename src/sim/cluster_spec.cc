#include "sim/cluster_spec.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/json_place.h"
#include "sched/gang_holds.h"

namespace gimbal::sim {
namespace {

constexpr int kMostEngines = 65'536;
constexpr double kMostSeconds = 1e9;
constexpr std::size_t kMostBytes = 16U << 20;

Duration seconds(double value) {
  return from_ms(value * 1000.0);
}

Result<void> nothing_else(const JsonObject& object, std::string_view known) {
  const std::vector<std::string> unread = object.unread();
  if (unread.empty()) return {};
  const std::string path = object.path_of(unread.front());
  return invalid_argument(fmt::format("{} is not a field: known are {}", path, known), path);
}

Result<cost::Tier> tier_of(const JsonObject& object, const std::string& name) {
  for (const cost::Tier tier : {cost::Tier::kSameNode, cost::Tier::kOtherNode}) {
    if (to_string(tier) == name) return tier;
  }
  return object.wrong("tier", "same_node or other_node");
}

Result<GroupSpec> group_from(const Json& value, const std::string& path) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(value, path));
  GroupSpec group;
  GIMBAL_RETURN_IF_ERROR(object.read("count", 1, kMostEngines, group.count));
  GIMBAL_RETURN_IF_ERROR(object.read("ranks", 1, sched::kMostGangRanks, group.ranks));
  GIMBAL_RETURN_IF_ERROR(object.read("attention_tp", 1, 64, group.attention_tp));
  GIMBAL_RETURN_IF_ERROR(object.read("profile", group.profile));
  std::string tier(to_string(group.tier));
  GIMBAL_RETURN_IF_ERROR(object.read("tier", tier));
  GIMBAL_ASSIGN_OR_RETURN(group.tier, tier_of(object, tier));
  GIMBAL_RETURN_IF_ERROR(object.read("speed", 1e-3, 1e3, group.speed));
  GIMBAL_ASSIGN_OR_RETURN(group.kv_cache_bytes,
                          object.integer("kv_cache_memory_bytes", 1, std::int64_t{1} << 50));
  GIMBAL_RETURN_IF_ERROR(nothing_else(
      object, "count, ranks, attention_tp, profile, tier, speed and kv_cache_memory_bytes"));
  return group;
}

Result<SignalOptions> signals_from(const Json& value) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(value, "signals"));
  double delay_ms = 0;
  double jitter_ms = 0;
  SignalOptions signals;
  GIMBAL_RETURN_IF_ERROR(object.read("delay_ms", 0.0, 1e6, delay_ms));
  GIMBAL_RETURN_IF_ERROR(object.read("jitter_ms", 0.0, 1e6, jitter_ms));
  GIMBAL_RETURN_IF_ERROR(object.read("loss", 0.0, 1.0, signals.loss));
  GIMBAL_RETURN_IF_ERROR(nothing_else(object, "delay_ms, jitter_ms and loss"));
  signals.delay = from_ms(delay_ms);
  signals.jitter = from_ms(jitter_ms);
  return signals;
}

Result<ScriptEvent> event_from(const Json& value, const std::string& path, int engines) {
  using Kind = ScriptEvent::Kind;
  constexpr std::array<std::pair<const char*, Kind>, 4> kKinds{{{"fail", Kind::kFail},
                                                                {"start", Kind::kStart},
                                                                {"stop", Kind::kStop},
                                                                {"slow", Kind::kSlow}}};
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(value, path));
  ScriptEvent event;
  double at = 0;
  double noticed_after = 0;
  GIMBAL_RETURN_IF_ERROR(object.read("at_s", 0.0, kMostSeconds, at));
  int kinds = 0;
  for (const auto& [name, kind] : kKinds) {
    GIMBAL_ASSIGN_OR_RETURN(const auto engine, object.integer(name, 0, engines - 1));
    if (!engine) continue;
    ++kinds;
    event.kind = kind;
    event.engine = EngineId{static_cast<EngineId::rep>(*engine)};
  }
  if (kinds != 1) {
    return invalid_argument(
        fmt::format("{} must have exactly one of fail, start, stop and slow, has {}", path, kinds),
        path);
  }
  if (event.kind == Kind::kSlow) {
    GIMBAL_RETURN_IF_ERROR(object.read("factor", 1e-3, 1e6, event.factor));
  } else if (event.kind == Kind::kFail) {
    GIMBAL_RETURN_IF_ERROR(object.read("noticed_after_s", 0.0, kMostSeconds, noticed_after));
  }
  GIMBAL_RETURN_IF_ERROR(nothing_else(
      object, "at_s, fail (with noticed_after_s), start, stop and slow (with factor)"));
  event.at = seconds(at);
  event.noticed_after = seconds(noticed_after);
  return event;
}

Result<const Json*> list_of(JsonObject& object, const char* name) {
  const Json* list = object.raw(name);
  if (list != nullptr && !list->is_array()) return object.wrong(name, "a list");
  return list;
}

}  // namespace

int ClusterSpec::engines() const {
  int engines = 0;
  for (const GroupSpec& group : groups)
    engines += group.count * group.ranks;
  return engines;
}

Result<ClusterSpec> uniform_cluster(int engines, int expert_parallel_size) {
  if (engines < 1 || engines > kMostEngines) {
    return invalid_argument(
        fmt::format("engines must be from 1 to {}, is {}", kMostEngines, engines), "engines");
  }
  const int ranks = expert_parallel_size == 0 ? engines : expert_parallel_size;
  if (ranks < 1 || engines % ranks != 0 || ranks > sched::kMostGangRanks) {
    return invalid_argument(
        fmt::format("expert_parallel_size must divide the {} engines and be at most {}, is {}",
                    engines, sched::kMostGangRanks, ranks),
        "expert_parallel_size");
  }
  ClusterSpec spec;
  spec.groups.push_back({.count = engines / ranks, .ranks = ranks});
  return spec;
}

Result<ClusterSpec> cluster_from_json(const Json& value) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(value));
  ClusterSpec spec;
  GIMBAL_ASSIGN_OR_RETURN(const Json* const groups, list_of(object, "groups"));
  if (groups == nullptr || groups->empty()) {
    return invalid_argument("groups must be a list of at least one group", "groups");
  }
  std::int64_t engines = 0;
  for (std::size_t i = 0; i < groups->size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(spec.groups.emplace_back(),
                            group_from((*groups)[i], fmt::format("groups[{}]", i)));
    engines += std::int64_t{spec.groups.back().count} * spec.groups.back().ranks;
  }
  if (engines > kMostEngines) {
    return invalid_argument(
        fmt::format("groups must have at most {} engines together, have {}", kMostEngines, engines),
        "groups");
  }
  if (const Json* signals = object.raw("signals"); signals != nullptr) {
    GIMBAL_ASSIGN_OR_RETURN(spec.signals, signals_from(*signals));
  }
  GIMBAL_ASSIGN_OR_RETURN(const Json* const events, list_of(object, "events"));
  for (std::size_t i = 0; events != nullptr && i < events->size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(
        spec.script.emplace_back(),
        event_from((*events)[i], fmt::format("events[{}]", i), static_cast<int>(engines)));
  }
  GIMBAL_RETURN_IF_ERROR(nothing_else(object, "groups, signals and events"));
  return spec;
}

Result<ClusterSpec> read_cluster_spec(const std::string& path) {
  std::ifstream file(path);
  if (!file) return io_error(path, errno);
  std::ostringstream content;
  content << file.rdbuf();
  const std::string text = std::move(content).str();
  if (file.bad()) return io_error(path, errno);
  if (text.size() > kMostBytes) {
    return invalid_argument(fmt::format("{}: a cluster spec has at most {} bytes, this has {}",
                                        path, kMostBytes, text.size()));
  }
  const auto json = parse_json(text);
  if (!json.ok()) return json.error().within(path);
  auto spec = cluster_from_json(*json);
  if (!spec.ok()) {
    return spec.error().within(fmt::format("{}:{}", path, json_line(text, spec.error().field)));
  }
  return spec;
}

}  // namespace gimbal::sim
