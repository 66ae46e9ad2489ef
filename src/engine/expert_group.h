#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "comm/exchange_profile.h"
#include "comm/in_process/doorbell.h"
#include "engine/expert_station.h"
#include "engine/model_executor.h"
#include "model/batch_rows.h"
#include "model/forward.h"
#include "policy/expert_map.h"

namespace gimbal::engine {

struct ExpertGroupOptions {
  int ranks = 2;                  // 2 to 64
  ModelExecutorOptions executor;  // of every rank
  // Any rank's thread may run any rank's service. If not, only the rank's own does, as on a device
  // of its own, and the survivors those of ranks that are gone.
  bool shared_workers = true;
  std::optional<comm::ExchangeProfile> profile;  // imposed delays
  std::optional<policy::ExpertMap> map;          // at the start; linear by default
  std::string expert_queue_policy = "run-all";
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
  [[nodiscard]] comm::Doorbell& bell(Rank rank) { return *bells_[index(rank)]; }
  [[nodiscard]] ExpertStation& station(Rank rank) { return *stations_[index(rank)]; }
  [[nodiscard]] const ExpertStation& station(Rank rank) const { return *stations_[index(rank)]; }

  [[nodiscard]] std::shared_ptr<const policy::ExpertMap> map() const;  // owners: who reads it
  [[nodiscard]] std::uint32_t map_version() const { return map_version_.load(); }
  // From now on rows are routed by this map; those under way come back as they were sent. Gives it
  // the next version unless it has a later one. kInvalidArgument: another shape, an expert on a
  // rank that is gone, or a version above kMostMapVersion.
  [[nodiscard]] Result<std::uint32_t> set_map(policy::ExpertMap map);

  // The rank is gone: it holds nobody up, its experts are run by the others, who get the next map.
  // True the first time.
  bool retire(Rank rank);
  // Who else is to know of ranks that go from now on: called at the end of retire(), on its thread.
  void on_retired(std::function<void(Rank)> listener);
  [[nodiscard]] bool alive(Rank rank) const { return (gone_.load() & sched::rank_bit(rank)) == 0; }
  [[nodiscard]] bool anybody_gone() const { return gone_.load() != 0; }
  void ring_all();

  // A sign of life of the rank's thread.
  void beat(Rank rank) { beats_[index(rank)].fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t beats(Rank rank) const {
    return beats_[index(rank)].load(std::memory_order_relaxed);
  }

 private:
  ExpertGroup(const model::Model& model, ExpertGroupOptions options, const Clock& clock,
              policy::ExpertMap map);

  [[nodiscard]] static std::size_t index(Rank rank) {
    return static_cast<std::size_t>(rank.value());
  }

  ExpertGroupOptions options_;
  const Clock& clock_;
  model::RowStore rows_;
  std::vector<std::unique_ptr<comm::Doorbell>> bells_;
  std::vector<std::unique_ptr<ExpertStation>> stations_;
  std::vector<std::atomic<std::uint64_t>> beats_;
  std::atomic<std::uint64_t> gone_{0};  // a bit a rank
  mutable std::mutex map_mutex_;
  std::shared_ptr<const policy::ExpertMap> map_;  // guarded by map_mutex_
  std::atomic<std::uint32_t> map_version_{0};
  std::function<void(Rank)> listener_;  // guarded by map_mutex_
};

}  // namespace gimbal::engine
