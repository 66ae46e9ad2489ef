#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "cluster/expert_inspector.h"
#include "comm/exchange_profile.h"
#include "engine/expert_group.h"
#include "engine/gang_driver.h"
#include "engine/serving_engine.h"
#include "policy/expert_map.h"
#include "policy/expert_queue_policy.h"

namespace gimbal::engine {

// Who computes for a rank.
enum class RankWorkers : std::uint8_t {
  kShared,  // one pool: any worker serves any rank, expert work first
  kOwn,     // a rank has workers of its own for its attention and its service, as on its own device
};

struct EngineFleetOptions {
  int engines = 1;               // N; >= 1
  int expert_parallel_size = 0;  // E divides N: N/E groups share experts; 1: no exchange; 0: N
  RankWorkers workers = RankWorkers::kShared;
  int threads = 0;  // compute threads of all engines together; 0: one a CPU
  bool pin = true;  // bind them to CPUs
  int nice = 0;     // of compute threads and engines: more lets others go first
  cluster::GangPace pace = cluster::GangPace::kGang;
  // See cluster::GangCoordinatorOptions. nullopt: its default where ranks have workers of their
  // own, else to the end.
  std::optional<double> patience;
  double hold_steps = cluster::GangCoordinatorOptions().hold_steps;  // likewise; >= 0
  // See policy::make_gang_planner. Empty: pairing where ranks have workers of their own and the
  // gimbal former, else as-wanted: ranks that share workers have no time of their own to fill, and
  // other formers have budgets of their own.
  std::string planner;
  std::optional<comm::ExchangeProfile> profile;  // imposed delays of the exchange
  std::optional<policy::ExpertMap> map;          // at the start, for each group; linear by default
  policy::ExpertQueueRule expert_queues;
  ServingEngineOptions engine;  // of every engine; kv_cache_bytes each
};

// The engines of one process over one copy of the weights, their pools, and the groups in which
// they share experts (docs/design/0010). Made and destroyed by one thread; the engines are
// thread-safe. Model and shared pool must outlive it.
class EngineFleet final : public cluster::ExpertInspector {
 public:
  // `shared`: the pool of workers kShared. `sinks`: one an engine. Errors name the option.
  [[nodiscard]] static Result<std::unique_ptr<EngineFleet>> start(
      const model::Model& model, EngineFleetOptions options, ThreadPool& shared,
      std::span<cluster::TokenSink* const> sinks);
  ~EngineFleet() override;  // ends every request with kCancelled

  // What several options together must keep, before a model is loaded. `experts` of a layer; 0: a
  // dense model.
  [[nodiscard]] static Result<void> check(const EngineFleetOptions& options, int experts);
  // Engines that share experts; 1: none do. Requires: checked.
  [[nodiscard]] static int group_size(const EngineFleetOptions& options, int experts);

  [[nodiscard]] int size() const { return static_cast<int>(engines_.size()); }
  [[nodiscard]] ServingEngine& engine(int index) { return *engines_[at(index)]; }
  [[nodiscard]] const ServingEngine& engine(int index) const { return *engines_[at(index)]; }
  [[nodiscard]] const EngineFleetOptions& options() const { return options_; }

  // Groups of at least two ranks, in order: engine i is rank i mod E of group i / E.
  struct Group {
    std::unique_ptr<ExpertGroup> experts;
    std::unique_ptr<GangDriver> gang;
  };
  [[nodiscard]] std::span<const Group> groups() const { return groups_; }

  // Who is to know of engines that end or hang from now on, on the thread that finds out.
  void on_retired(const std::function<void()>& listener);

  [[nodiscard]] std::vector<cluster::GroupReading> expert_groups() const override;
  [[nodiscard]] std::shared_ptr<const policy::ExpertMap> expert_map(
      std::size_t group) const override;
  [[nodiscard]] std::uint64_t expert_traffic(std::size_t group, Rank rank, LayerIndex layer,
                                             Rank source, ExpertId expert) const override;
  [[nodiscard]] Result<std::uint32_t> set_expert_map(std::size_t group,
                                                     policy::ExpertMap map) override;

 private:
  explicit EngineFleet(EngineFleetOptions options) : options_(std::move(options)) {}
  [[nodiscard]] static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  [[nodiscard]] Result<void> make_groups(const model::Model& model);
  void trace_stations(int group, ExpertGroup& experts);
  void make_pools();

  EngineFleetOptions options_;
  SteadyClock clock_;
  std::vector<std::unique_ptr<ThreadPool>> pools_;  // of workers kOwn, by engine
  std::vector<Group> groups_;
  std::unique_ptr<LifeSigns> peers_;                     // of several engines without groups
  std::vector<std::unique_ptr<ServingEngine>> engines_;  // last: their threads use the rest
};

}  // namespace gimbal::engine
