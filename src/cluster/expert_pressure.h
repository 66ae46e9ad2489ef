#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cluster/engine.h"
#include "policy/expert_queue_policy.h"

namespace gimbal::cluster {

// Counters of what a group's ranks executed since the start; [layers, ranks], row-major.
struct ExpertLoad {
  std::uint64_t steps = 0;         // of the group
  std::uint64_t prefill_rows = 0;  // rows of prompts that took part in them
  std::span<const std::uint64_t> rows;
  std::span<const std::uint64_t> distinct_experts;
  policy::ExpertRunCost cost;  // what they cost there; zeros: not known
};

// What the group's engines have fitted of their services' times, as the cost of expert work: of the
// engine that has seen most prompts. Zeros: nothing.
[[nodiscard]] policy::ExpertRunCost expert_cost(std::span<const EngineSnapshot> engines);

// Expert pressure rho of the ranks of one group: what was executed at a rank, by the mean over the
// group's ranks, averaged over the layers that executed anything, over windows of 64 steps, EWMA ½.
// Rows and distinct experts count by what they cost: rows where prompts are computed, the reading
// of weights where only decodes are. While the costs are not known rows count, and in windows of
// decodes alone distinct experts. Value type; a function of the counters in their order.
class ExpertPressure {
 public:
  // Requires: layers >= 0, ranks >= 1.
  ExpertPressure(int layers, int ranks);

  // Requires: sizes are layers · ranks; counters never fall.
  void note(const ExpertLoad& load);
  // Experts have moved: what was counted is of no use, and nothing is known for one window.
  void map_changed();

  // The greatest of the engine's own ranks. nullopt: not known, or muted. One rank: 1.
  [[nodiscard]] std::optional<double> pressure(std::span<const Rank> own) const;

 private:
  void close_window(const ExpertLoad& load);

  int layers_;
  int ranks_;
  bool started_ = false;
  bool known_ = false;
  std::uint64_t first_step_ = 0;
  std::uint64_t first_prefill_ = 0;
  std::vector<std::uint64_t> first_rows_;
  std::vector<std::uint64_t> first_distinct_;
  std::vector<double> pressure_;  // by rank
};

}  // namespace gimbal::cluster
