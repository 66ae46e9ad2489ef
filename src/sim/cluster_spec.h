#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cost/tier.h"
#include "sim/simulated_cluster.h"

namespace gimbal::sim {

// Groups of engines that share experts, all alike.
struct GroupSpec {
  int count = 1;         // such groups; >= 1
  int ranks = 1;         // engines of each, 1 to 64
  int attention_tp = 1;  // devices that share one engine's attention; the experts are on all
  std::string profile;   // a shipped name or a file; empty: the command's
  cost::Tier tier = cost::Tier::kSameNode;     // between the devices of a group
  double speed = 1;                            // of its devices, times the profile's; > 0
  std::optional<std::int64_t> kv_cache_bytes;  // of an engine; absent: what the memory leaves

  bool operator==(const GroupSpec&) const = default;
};

// What is simulated. Value type.
struct ClusterSpec {
  std::vector<GroupSpec> groups;  // at least one; engines are numbered in their order
  SignalOptions signals;
  std::vector<ScriptEvent> script;  // by engine numbers that exist

  [[nodiscard]] int engines() const;
  bool operator==(const ClusterSpec&) const = default;
};

// N engines in N/E groups, as `serve --data-parallel-size N --expert-parallel-size E`; E 0: all.
// kInvalidArgument names the field.
[[nodiscard]] Result<ClusterSpec> uniform_cluster(int engines, int expert_parallel_size);

// {"groups": [{"count": 2, "ranks": 8, "attention_tp": 1, "profile": "h200", "tier": "same_node",
//              "speed": 1.0, "kv_cache_memory_bytes": …}],
//  "signals": {"delay_ms": 5, "jitter_ms": 1, "loss": 0.01},
//  "events": [{"at_s": 10, "fail": 3, "noticed_after_s": 10}, {"at_s": 20, "slow": 0, "factor": 2},
//             {"at_s": 5, "start": 7}, {"at_s": 30, "stop": 1}]}
// All but `groups` may be left out. Errors name the field, its value and what would be accepted;
// fields that are not known are errors.
[[nodiscard]] Result<ClusterSpec> cluster_from_json(const Json& value);
// The same from a file; errors begin with its name and the line.
[[nodiscard]] Result<ClusterSpec> read_cluster_spec(const std::string& path);

}  // namespace gimbal::sim
