#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "cluster/expert_pressure.h"
#include "cluster/expert_rows.h"
#include "cluster/gang_coordinator.h"
#include "cluster/gang_rank.h"
#include "cost/cost_model.h"
#include "cost/expert_load_table.h"
#include "cost/routing_model.h"
#include "policy/expert_map.h"
#include "policy/gang_planner.h"
#include "sched/step_loop_options.h"
#include "sim/event_queue.h"
#include "sim/pass_costs.h"
#include "sim/pass_runner.h"
#include "sim/simulated_engine.h"

namespace gimbal::sim {

struct SimulatedGroupOptions {
  EngineId first_engine;  // of the cluster; its ranks follow each other
  int ranks = 1;          // >= 1
  double factor = 1;      // its devices take that many times as long as the profile says
  cost::Tier tier = cost::Tier::kSameNode;
  cluster::GangPace pace = cluster::GangPace::kGang;
  std::optional<double> patience;  // see cluster::GangCoordinatorOptions; nullopt: its default
  std::string planner = "pairing";
  bool exact = false;  // every row through the services, instead of expected times
  policy::ExpertQueueRule expert_queues;  // with exact
  std::uint64_t seed = 0;                 // with exact: of the experts that rows choose
  sched::StepLoopOptions scheduler;       // of every engine; asks_before_steps is filled in
};

// Engines that share experts, on virtual time: their schedulers, the production coordinator of
// gang steps between them, and one PassRunner. A group of one rank has its experts to itself.
//
// Messages between ranks and coordinator take no time. One thread; the collaborators must outlive
// it.
class SimulatedGroup final : private EngineSeat, private EventTarget {
 public:
  struct Collaborators {
    EventQueue& queue;
    const cost::CostModel& model;
    const cost::RoutingModel& routing;
    const cost::ExpertLoadTable& loads;  // of `map`
    const policy::ExpertMap& map;
    const RequestText& text;
    EngineObserver& cluster;
    const std::vector<sched::EventRecorder*>& recorders;  // by engine of the cluster; or empty
    Trace* trace = nullptr;
  };

  // Errors: as StepLoop::make and make_gang_planner.
  [[nodiscard]] static Result<std::unique_ptr<SimulatedGroup>> make(
      const SimulatedGroupOptions& options, const Collaborators& collaborators);

  [[nodiscard]] int ranks() const { return options_.ranks; }
  [[nodiscard]] SimulatedEngine& engine(Rank rank) { return *engines_[index(rank)]; }
  [[nodiscard]] const SimulatedEngine& engine(Rank rank) const { return *engines_[index(rank)]; }
  [[nodiscard]] const PassRunner& runner() const { return *runner_; }
  [[nodiscard]] std::optional<cluster::GangCounters> gang_counters() const;
  [[nodiscard]] cluster::GangPace pace() const { return options_.pace; }
  [[nodiscard]] bool shares_experts() const {
    return options_.ranks > 1 && with_.model.model().moe_layers() > 0;
  }
  [[nodiscard]] const cost::RoutingModel& routing() const { return with_.routing; }
  // Where its experts are now.
  [[nodiscard]] const policy::ExpertMap& map() const { return own_map_ ? *own_map_ : with_.map; }
  // Rows go by this map from now on; moving the weights takes no time. Returns its version.
  // kInvalidArgument: another shape, or experts at a rank that is gone. kUnsupported: with exact.
  [[nodiscard]] Result<std::uint32_t> set_map(policy::ExpertMap map);
  // Which ranks are to be expected to run the rows of a token of this topic, by the map of now.
  // Requires: shares_experts().
  [[nodiscard]] const cluster::ExpertRows& expected_rows(int topic);

  // The rank's device takes `factor` times as long from now on.
  void set_factor(Rank rank, double factor);
  // The engine is gone; its group goes on without it, and its experts are elsewhere.
  void bury(Rank rank);

  // Expert pressure of the rank, looked at now (cluster/expert_pressure.h).
  [[nodiscard]] std::optional<double> pressure(Rank rank);

 private:
  SimulatedGroup(const SimulatedGroupOptions& options, const Collaborators& collaborators);
  [[nodiscard]] static std::size_t index(Rank rank) {
    return static_cast<std::size_t>(rank.value());
  }
  // A step without sequences.
  class Dummy final : public PassListener, public EventTarget {
   public:
    Dummy(SimulatedGroup& group, Rank rank) : group_(group) { member.rank = rank; }
    void reached(PassMember& member) override;
    void on_event(std::uint64_t what) override;
    PassMember member;

   private:
    SimulatedGroup& group_;
  };

  void on_steps(SimulatedEngine& engine, const sched::Outputs& outputs) override;
  void on_settled() override { pump(); }
  void on_event(std::uint64_t what) override;
  void carry_out(Rank rank);
  void pump();
  void tell_coordinator(const cluster::GangEvent& event);
  void answer(const cluster::GangCommand& command);
  void start_dummy(const cluster::GangAnswer& answer, Rank rank);
  [[nodiscard]] std::vector<Rank> devices_of(Rank rank) const;
  void take_map(policy::ExpertMap map);
  void note_load();

  SimulatedGroupOptions options_;
  Collaborators with_;
  PassCosts costs_;
  std::unique_ptr<PassRunner> runner_;
  std::unique_ptr<policy::GangPlanner> planner_;
  std::optional<cluster::GangCoordinator> coordinator_;  // of more ranks than one
  std::vector<cluster::GangRank> seats_;                 // by rank
  std::vector<std::unique_ptr<Dummy>> dummies_;          // by rank
  std::optional<policy::ExpertMap> own_map_;             // once it is not the first one
  std::unique_ptr<cost::ExpertLoadTable> own_loads_;     // of own_map_
  std::vector<cluster::ExpertRows> expected_rows_;       // by topic; empty: not looked at yet
  cluster::ExpertPressure pressure_;
  std::uint64_t noted_steps_ = 0;
  std::vector<std::uint64_t> load_rows_;            // by device, work space
  std::vector<std::uint64_t> load_distinct_;        // by device, work space
  std::vector<cluster::EngineSnapshot> snapshots_;  // work space

  // Messages under way, in order.
  std::deque<cluster::GangEvent> events_;
  std::deque<cluster::GangCommand> answers_;
  std::vector<cluster::GangCommand> commands_;  // work space
  cluster::GangOrders orders_;                  // work space
  bool pumping_ = false;
  std::uint64_t wake_ = 0;      // number of the timer that counts
  std::uint64_t expected_ = 0;  // the last gang step that the runner was told of

  std::vector<std::unique_ptr<SimulatedEngine>> engines_;  // by rank; last: they use the rest
};

}  // namespace gimbal::sim
