#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cluster/inspector.h"
#include "cluster/order_log.h"

namespace prometheus {
struct MetricFamily;
}

namespace gimbal::server {

// What /metrics says of the engines: values that are read when it is asked for.
struct EngineReadings {
  std::vector<cluster::EngineStatus> engines;
  // Several engines behind one dispatcher; null: one engine without.
  const cluster::DispatchStatus* dispatch = nullptr;
  const cluster::ExpertInspector* experts = nullptr;  // that engines share; null: none
  std::vector<cluster::OrderCounts> orders = {};
};

// Adds the engines' families, one metric an engine with a label `engine`, and those of the
// dispatcher, whose queue is one more `engine` there. `model_name` is a label of all.
void add_engine_families(const EngineReadings& readings, const std::string& model_name,
                         std::vector<prometheus::MetricFamily>& families);

}  // namespace gimbal::server
