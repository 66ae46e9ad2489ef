#include "cluster/expert_json.h"

#include <algorithm>
#include <string>
#include <utility>

#include "policy/expert_map_json.h"

namespace gimbal::cluster {
namespace {

std::string_view name_of(GangPace pace) {
  constexpr std::string_view kNames[] = {"gang", "lockstep", "immediate"};
  return kNames[static_cast<std::size_t>(pace)];
}

Json gang_to_json(const GangCounters& gang) {
  Json leaves = Json::object();
  for (int reason = 0; reason < kLeaveReasons; ++reason) {
    leaves[std::string(to_string(static_cast<LeaveReason>(reason)))] =
        gang.leaves[static_cast<std::size_t>(reason)];
  }
  Json solos = Json::object();
  for (int reason = 0; reason < kSoloReasons; ++reason) {
    solos[std::string(to_string(static_cast<SoloReason>(reason)))] =
        gang.solos[static_cast<std::size_t>(reason)];
  }
  return {{"gang_steps", gang.gang_steps},  {"joins", gang.joins},       {"dummies", gang.dummies},
          {"leaves", std::move(leaves)},    {"solos", std::move(solos)}, {"waits", gang.waits},
          {"waited_ms", to_ms(gang.waited)}};
}

Json service_to_json(const ServiceReading& service) {
  return {{"engine", service.engine.value()},
          {"alive", service.alive},
          {"runs", service.runs},
          {"rows", service.rows},
          {"distinct_experts", service.distinct_experts},
          {"busy_ms", to_ms(service.busy)},
          {"holds", service.holds},
          {"held_ms", to_ms(service.held)},
          {"bytes_in", service.bytes_in},
          {"bytes_out", service.bytes_out}};
}

// Rows by expert, [layers][experts].
Json traffic_to_json(const ExpertInspector& inspector, std::size_t group,
                     const policy::ExpertMap& map) {
  Json layers = Json::array();
  for (int layer = 0; layer < map.layers(); ++layer) {
    Json experts = Json::array();
    for (int expert = 0; expert < map.experts(LayerIndex{layer}); ++expert) {
      std::uint64_t rows = 0;
      for (int rank = 0; rank < map.ranks(); ++rank) {
        for (int source = 0; source < map.ranks(); ++source) {
          rows += inspector.expert_traffic(group, Rank{rank}, LayerIndex{layer}, Rank{source},
                                           ExpertId{expert});
        }
      }
      experts.push_back(rows);
    }
    layers.push_back(std::move(experts));
  }
  return layers;
}

Json rows_of_table(std::span<const std::uint64_t> cells, int columns) {
  Json rows = Json::array();
  const auto width = static_cast<std::size_t>(columns);
  for (std::size_t at = 0; at < cells.size(); at += width) {
    Json& row = rows.emplace_back(Json::array());
    for (const std::uint64_t cell : cells.subspan(at, width))
      row.push_back(cell);
  }
  return rows;
}

}  // namespace

double balancedness(const GroupReading& group) {
  double sum = 0;
  double most = 0;
  for (const ServiceReading& service : group.services) {
    sum += static_cast<double>(service.rows);
    most = std::max(most, static_cast<double>(service.rows));
  }
  return most > 0 ? sum / static_cast<double>(group.services.size()) / most : 1.0;
}

Json experts_to_json(const ExpertInspector& inspector) {
  Json groups = Json::array();
  const std::vector<GroupReading> readings = inspector.expert_groups();
  for (std::size_t i = 0; i < readings.size(); ++i) {
    const GroupReading& group = readings[i];
    Json services = Json::array();
    for (const ServiceReading& service : group.services)
      services.push_back(service_to_json(service));
    const auto map = inspector.expert_map(i);
    groups.push_back({{"group", i},
                      {"pace", name_of(group.pace)},
                      {"map_version", group.map_version},
                      {"balancedness", balancedness(group)},
                      {"gang", gang_to_json(group.gang)},
                      {"services", std::move(services)},
                      {"rows", traffic_to_json(inspector, i, *map)},
                      {"map", policy::expert_map_to_json(*map)}});
  }
  return {{"groups", std::move(groups)}};
}

Json sources_to_json(std::span<const EngineStatus> engines) {
  Json sources = Json::array();
  for (const EngineStatus& engine : engines) {
    const ExpertWork& work = engine.expert_work;
    if (work.ranks == 0) continue;
    sources.push_back({{"engine", engine.engine.value()},
                       {"rows", rows_of_table(work.rows, work.ranks)},
                       {"distinct_experts", rows_of_table(work.distinct_experts, work.ranks)}});
  }
  return sources;
}

Result<Json> swap_expert_map(ExpertInspector& inspector, Json json) {
  const std::size_t groups = inspector.expert_groups().size();
  if (groups == 0) {
    return invalid_argument("no engines share experts here: serve with --expert-parallel-size");
  }
  std::size_t group = 0;
  if (json.is_object() && json.contains("group")) {
    JsonObject object(json);
    GIMBAL_ASSIGN_OR_RETURN(const auto chosen,
                            object.integer("group", 0, static_cast<std::int64_t>(groups) - 1));
    group = static_cast<std::size_t>(chosen.value_or(0));
    json.erase("group");
  }
  const policy::ExpertMapShape shape = inspector.expert_map(group)->shape();
  GIMBAL_ASSIGN_OR_RETURN(policy::ExpertMap map, policy::expert_map_from_json(json, shape));
  GIMBAL_ASSIGN_OR_RETURN(const std::uint32_t version,
                          inspector.set_expert_map(group, std::move(map)));
  return Json{{"group", group}, {"version", version}};
}

}  // namespace gimbal::cluster
