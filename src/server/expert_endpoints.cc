#include "server/expert_endpoints.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "policy/expert_map_json.h"

namespace gimbal::server {
namespace {

using cluster::GroupReading;
using cluster::ServiceReading;

std::string_view name_of(cluster::GangPace pace) {
  constexpr std::string_view kNames[] = {"gang", "lockstep", "immediate"};
  return kNames[static_cast<std::size_t>(pace)];
}

Json gang_to_json(const cluster::GangCounters& gang) {
  Json leaves = Json::object();
  for (int reason = 0; reason < cluster::kLeaveReasons; ++reason) {
    leaves[std::string(to_string(static_cast<cluster::LeaveReason>(reason)))] =
        gang.leaves[static_cast<std::size_t>(reason)];
  }
  Json solos = Json::object();
  for (int reason = 0; reason < cluster::kSoloReasons; ++reason) {
    solos[std::string(to_string(static_cast<cluster::SoloReason>(reason)))] =
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
Json traffic_to_json(const cluster::ExpertInspector& inspector, std::size_t group,
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

class FamilyWriter {
 public:
  FamilyWriter(std::string_view model_name, std::vector<prometheus::MetricFamily>& families)
      : model_name_(model_name), families_(families) {}

  void open(const char* name, const char* help, prometheus::MetricType type) {
    prometheus::MetricFamily& family = families_.emplace_back();
    family.name = name;
    family.help = help;
    family.type = type;
  }
  void add(double value, std::vector<prometheus::ClientMetric::Label> labels) {
    prometheus::MetricFamily& family = families_.back();
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    metric.label.push_back({"model_name", model_name_});
    if (family.type == prometheus::MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
  }

 private:
  std::string model_name_;
  std::vector<prometheus::MetricFamily>& families_;
};

constexpr auto kCounter = prometheus::MetricType::Counter;
constexpr auto kGauge = prometheus::MetricType::Gauge;

void add_service_metrics(const std::vector<GroupReading>& groups, FamilyWriter& out) {
  const auto each = [&](const char* name, const char* help,
                        const std::function<double(const ServiceReading&)>& value) {
    out.open(name, help, kCounter);
    for (const GroupReading& group : groups) {
      for (const ServiceReading& service : group.services)
        out.add(value(service), {{"engine", std::to_string(service.engine.value())}});
    }
  };
  const auto real = [](std::uint64_t value) { return static_cast<double>(value); };
  each("gimbal:expert_service_rows_total", "Rows that an engine's expert service ran.",
       [&](const ServiceReading& s) { return real(s.rows); });
  each("gimbal:expert_service_runs_total", "Runs of an engine's expert service.",
       [&](const ServiceReading& s) { return real(s.runs); });
  each("gimbal:expert_service_distinct_experts_total",
       "Experts whose weights an engine's expert service read, summed over runs.",
       [&](const ServiceReading& s) { return real(s.distinct_experts); });
  each("gimbal:expert_service_seconds_total", "Time of an expert service's runs.",
       [](const ServiceReading& s) { return to_ms(s.busy) * 1e-3; });
  each("gimbal:expert_held_seconds_total",
       "Time that rows waited at an expert service for the rest of their gang step.",
       [](const ServiceReading& s) { return to_ms(s.held) * 1e-3; });
  each("gimbal:expert_exchange_in_bytes_total", "Rows that came to an expert service.",
       [&](const ServiceReading& s) { return real(s.bytes_in); });
  each("gimbal:expert_exchange_out_bytes_total", "Outputs that an expert service sent back.",
       [&](const ServiceReading& s) { return real(s.bytes_out); });
}

// Mean over the greatest load of a rank: 1 is even (DeepSeek's balancedness).
double balancedness(const GroupReading& group) {
  double sum = 0;
  double most = 0;
  for (const ServiceReading& service : group.services) {
    sum += static_cast<double>(service.rows);
    most = std::max(most, static_cast<double>(service.rows));
  }
  return most > 0 ? sum / static_cast<double>(group.services.size()) / most : 1.0;
}

void add_gang_metrics(const std::vector<GroupReading>& groups, FamilyWriter& out) {
  const auto for_each_group = [&](auto&& add) {
    for (std::size_t i = 0; i < groups.size(); ++i)
      add(groups[i], std::to_string(i));
  };
  out.open("gimbal:expert_balancedness", "Rows of the mean rank by rows of the busiest.", kGauge);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    out.add(balancedness(group), {{"group", label}});
  });
  out.open("gimbal:expert_map_version", "Version of the map by which rows are sent.", kGauge);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    out.add(group.map_version, {{"group", label}});
  });
  out.open("gimbal:gang_steps_total", "Steps that engines of a group ran together.", kCounter);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    out.add(static_cast<double>(group.gang.gang_steps), {{"group", label}});
  });
  out.open("gimbal:gang_joins_total", "Parts of engines in steps together, by kind.", kCounter);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    const auto dummies = static_cast<double>(group.gang.dummies);
    out.add(static_cast<double>(group.gang.joins) - dummies, {{"group", label}, {"kind", "work"}});
    out.add(dummies, {{"group", label}, {"kind", "dummy"}});
  });
  out.open("gimbal:gang_leaves_total", "Engines that left a step together, by reason.", kCounter);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    for (int reason = 0; reason < cluster::kLeaveReasons; ++reason) {
      out.add(static_cast<double>(group.gang.leaves[static_cast<std::size_t>(reason)]),
              {{"group", label},
               {"reason", std::string(to_string(static_cast<cluster::LeaveReason>(reason)))}});
    }
  });
  out.open("gimbal:gang_solos_total", "Steps that engines ran alone, by reason.", kCounter);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    for (int reason = 0; reason < cluster::kSoloReasons; ++reason) {
      out.add(static_cast<double>(group.gang.solos[static_cast<std::size_t>(reason)]),
              {{"group", label},
               {"reason", std::string(to_string(static_cast<cluster::SoloReason>(reason)))}});
    }
  });
  out.open("gimbal:gang_waited_seconds_total", "Time that engines waited to step together.",
           kCounter);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    out.add(to_ms(group.gang.waited) * 1e-3, {{"group", label}});
  });
}

}  // namespace

std::string describe_experts(const cluster::ExpertInspector& inspector) {
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
  return Json{{"groups", std::move(groups)}}.dump();
}

Result<std::string> swap_expert_map(cluster::ExpertInspector& inspector, std::string_view body) {
  const std::size_t groups = inspector.expert_groups().size();
  if (groups == 0) {
    return invalid_argument("no engines share experts here: serve with --expert-parallel-size");
  }
  GIMBAL_ASSIGN_OR_RETURN(Json json, parse_json(body));
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
  return fmt::format(R"({{"group":{},"version":{}}})", group, version);
}

void add_expert_metrics(const cluster::ExpertInspector& inspector, std::string_view model_name,
                        std::vector<prometheus::MetricFamily>& families) {
  const std::vector<GroupReading> groups = inspector.expert_groups();
  if (groups.empty()) return;
  FamilyWriter out(model_name, families);
  add_service_metrics(groups, out);
  add_gang_metrics(groups, out);
}

}  // namespace gimbal::server
