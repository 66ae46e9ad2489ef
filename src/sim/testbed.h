#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cluster/dispatcher_options.h"
#include "cluster/gang_coordinator.h"
#include "cost/hardware_profile.h"
#include "cost/model_shape.h"
#include "sched/step_loop_options.h"
#include "sim/cluster_spec.h"
#include "sim/simulated_cluster.h"

namespace gimbal::sim {

// Which experts tokens choose.
struct RoutingOptions {
  double zipf = 0;         // exponent; 0: uniform
  int topics = 1;          // >= 1; each with its own popular experts
  std::uint64_t seed = 0;  // which experts are popular
  std::string record;      // a file of `serve --record-routing`; empty: none
};

// What all runs of a comparison share: the machines and the model on them.
struct TestbedOptions {
  cost::ModelShape model;
  cost::HardwareProfile profile;  // of groups that name none
  ClusterSpec cluster;
  RoutingOptions routing;
  std::optional<Json> expert_map;  // of each group; absent: linear
};

// Tables of the machines, made once for any number of runs. May be read by any number of threads;
// clusters refer to it.
class Testbed {
 public:
  // kInvalidArgument: a map, a record or a tensor-parallel size that does not fit the model; more
  // ranks than experts; a model that does not fit the memory.
  [[nodiscard]] static Result<std::unique_ptr<Testbed>> make(TestbedOptions options);

  [[nodiscard]] const TestbedOptions& options() const { return options_; }
  // By group of the spec.
  [[nodiscard]] const GroupHardware& hardware(std::size_t group) const { return *by_group_[group]; }

 private:
  explicit Testbed(TestbedOptions options) : options_(std::move(options)) {}
  [[nodiscard]] Result<std::unique_ptr<GroupHardware>> build(const GroupSpec& group) const;

  TestbedOptions options_;
  std::vector<std::unique_ptr<GroupHardware>> owned_;
  std::vector<const GroupHardware*> by_group_;
};

// One system that is compared: how engines schedule, dispatch and step.
struct SystemOptions {
  std::string name;  // for people: a preset
  // Filled in from the model and the machines: vocab_size, experts, kv_pages; where 0:
  // max_model_len.
  sched::StepLoopOptions scheduler;
  std::int64_t kv_cache_bytes = 0;  // of an engine; 0: what the memory leaves
  cluster::GangPace pace = cluster::GangPace::kGang;
  std::optional<double> patience;  // see cluster::GangCoordinatorOptions; nullopt: its default
  std::string planner = "pairing";
  bool exact = false;                     // see ExactRunner
  policy::ExpertQueueRule expert_queues;  // with exact
  cluster::DispatcherOptions dispatch;
  // What the dispatch rule takes a token's exchange to cost; nullopt: what the profiles say, the
  // mean of the engines that share experts.
  std::optional<double> exchange_ms_per_token;
  std::uint64_t seed = 0;
};

// The cluster's options for this system on this testbed, which must outlive the cluster. Errors
// name the option: one request of max_model_len must fit the KV cache.
[[nodiscard]] Result<SimulatedClusterOptions> cluster_options(const Testbed& testbed,
                                                              const SystemOptions& system);

}  // namespace gimbal::sim
