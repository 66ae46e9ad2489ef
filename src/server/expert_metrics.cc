#include "server/expert_metrics.h"

#include <prometheus/metric_family.h>

#include <functional>
#include <limits>
#include <utility>

#include "cluster/expert_json.h"

namespace gimbal::server {
namespace {

using cluster::GroupReading;
using cluster::ServiceReading;

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
  // To the open family, which must be a histogram.
  void add(const DurationHistogram::Reading& reading,
           std::vector<prometheus::ClientMetric::Label> labels) {
    prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    metric.label.push_back({"model_name", model_name_});
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < reading.counts.size(); ++i) {
      sum += reading.counts[i];
      const double bound = i < DurationHistogram::kBounds.size()
                               ? to_ms(DurationHistogram::kBounds[i]) * 1e-3
                               : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({.cumulative_count = sum, .upper_bound = bound});
    }
    metric.histogram.sample_count = sum;
    metric.histogram.sample_sum = to_ms(reading.sum) * 1e-3;
  }

 private:
  std::string model_name_;
  std::vector<prometheus::MetricFamily>& families_;
};

constexpr auto kCounter = prometheus::MetricType::Counter;
constexpr auto kGauge = prometheus::MetricType::Gauge;
constexpr auto kHistogram = prometheus::MetricType::Histogram;

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

void add_service_times(const std::vector<GroupReading>& groups, FamilyWriter& out) {
  const auto each = [&](const char* name, const char* help,
                        DurationHistogram::Reading ServiceReading::*times) {
    out.open(name, help, kHistogram);
    for (const GroupReading& group : groups) {
      for (const ServiceReading& service : group.services)
        out.add(service.*times, {{"engine", std::to_string(service.engine.value())}});
    }
  };
  each("gimbal:expert_service_run_seconds", "Time of a run of an engine's expert service.",
       &ServiceReading::run_times);
  each("gimbal:expert_service_wait_seconds",
       "From the post of an expert's rows to the run that takes them; of each expert's, those that "
       "waited longest.",
       &ServiceReading::waits);
  each("gimbal:expert_service_hold_seconds",
       "Time that a post waited at an expert service for the rest of its gang step.",
       &ServiceReading::hold_times);
}

void add_gang_metrics(const std::vector<GroupReading>& groups, FamilyWriter& out) {
  const auto for_each_group = [&](auto&& add) {
    for (std::size_t i = 0; i < groups.size(); ++i)
      add(groups[i], std::to_string(i));
  };
  out.open("gimbal:expert_balancedness", "Rows of the mean rank by rows of the busiest.", kGauge);
  for_each_group([&](const GroupReading& group, const std::string& label) {
    out.add(cluster::balancedness(group), {{"group", label}});
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

void add_expert_metrics(const cluster::ExpertInspector& inspector, std::string_view model_name,
                        std::vector<prometheus::MetricFamily>& families) {
  const std::vector<GroupReading> groups = inspector.expert_groups();
  if (groups.empty()) return;
  FamilyWriter out(model_name, families);
  add_service_metrics(groups, out);
  add_service_times(groups, out);
  add_gang_metrics(groups, out);
}

}  // namespace gimbal::server
