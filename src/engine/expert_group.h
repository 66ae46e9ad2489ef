#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "comm/exchange_profile.h"
#include "engine/expert_station.h"
#include "engine/life_signs.h"
#include "engine/model_executor.h"
#include "model/batch_rows.h"
#include "model/forward.h"
#include "policy/expert_map.h"
#include "policy/expert_queue_policy.h"

namespace gimbal::engine {

struct ExpertGroupOptions {
  int ranks = 2;                  // 2 to 64
  ModelExecutorOptions executor;  // of every rank
  // Any rank's thread may run any rank's service. If not, only the rank's own does, as on a device
  // of its own, and the survivors those of ranks that are gone.
  bool shared_workers = true;
  std::optional<comm::ExchangeProfile> profile;  // imposed delays
  std::optional<policy::ExpertMap> map;          // at the start; linear by default
  policy::ExpertQueueRule expert_queues;
};

// The ranks of this process that share experts (docs/design/0010): their rows in one store, the
// stations that run experts, the map, and who is gone. Weights are in memory once: on a CPU a map
// says which rank runs an expert, not where it is. Thread-safe; each rank reaches it through a
// GroupPort. The model and the clock must outlive it, and it the ranks' threads.
class ExpertGroup {
 public:
  // kInvalidArgument: options out of range, more ranks than experts, a map of another shape.
  [[nodiscard]] static Result<std::unique_ptr<ExpertGroup>> make(const model::Model& model,
                                                                 ExpertGroupOptions options,
                                                                 const Clock& clock);

  // The shape that its maps have.
  [[nodiscard]] static policy::ExpertMapShape map_shape(const model_config::ModelConfig& config,
                                                        int ranks);

  [[nodiscard]] const ExpertGroupOptions& options() const { return options_; }
  [[nodiscard]] int ranks() const { return options_.ranks; }
  [[nodiscard]] const Clock& clock() const { return clock_; }
  [[nodiscard]] model::RowStore& rows() { return rows_; }
  [[nodiscard]] LifeSigns& life() { return life_; }  // a place is a rank
  [[nodiscard]] ExpertStation& station(Rank rank) { return *stations_[index(rank)]; }
  [[nodiscard]] const ExpertStation& station(Rank rank) const { return *stations_[index(rank)]; }

  [[nodiscard]] std::shared_ptr<const policy::ExpertMap> map() const;  // owners: who reads it
  [[nodiscard]] std::uint32_t map_version() const { return map_version_.load(); }
  // From now on rows are routed by this map; those under way come back as they were sent. Gives it
  // the next version unless it has a later one. kInvalidArgument: another shape, an expert on a
  // rank that is gone, or a version above kMostMapVersion.
  [[nodiscard]] Result<std::uint32_t> set_map(policy::ExpertMap map);

  // The rank is gone: it holds nobody up, its experts are run by the others, who get the next map.
  // Announced at the end. True the first time.
  bool retire(Rank rank);
  [[nodiscard]] bool alive(Rank rank) const { return life_.alive(rank.value()); }
  // A rank went while it ran experts: rows of others are lost with it, and it may write outputs
  // yet, so nobody can go on.
  [[nodiscard]] bool broken() const { return broken_.load(std::memory_order_relaxed); }
  void ring_all();

 private:
  ExpertGroup(const model::Model& model, ExpertGroupOptions options, const Clock& clock,
              policy::ExpertMap map);

  [[nodiscard]] static std::size_t index(Rank rank) {
    return static_cast<std::size_t>(rank.value());
  }

  ExpertGroupOptions options_;
  const Clock& clock_;
  model::RowStore rows_;
  LifeSigns life_;
  std::atomic<bool> broken_{false};
  std::vector<std::unique_ptr<ExpertStation>> stations_;
  mutable std::mutex map_mutex_;
  std::shared_ptr<const policy::ExpertMap> map_;  // guarded by map_mutex_
  std::atomic<std::uint32_t> map_version_{0};
};

}  // namespace gimbal::engine
