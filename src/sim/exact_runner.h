#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "cost/routing_model.h"
#include "policy/expert_map.h"
#include "policy/expert_queue_policy.h"
#include "sched/expert_queues.h"
#include "sched/gang_holds.h"
#include "sched/outstanding_rows.h"
#include "sim/event_queue.h"
#include "sim/pass_costs.h"
#include "sim/pass_runner.h"

namespace gimbal::sim {

// A PassRunner that runs every row through the expert services on virtual time: routers' choices
// are drawn, rows are posted by the map, held by sched::GangHolds until their gang step's members
// have posted, queued in sched::ExpertQueues, run as the ExpertQueuePolicy says, and counted back
// into sched::OutstandingRows. So a popular expert delays everyone who shares it, and layers and
// ranks differ. A device runs its service first and its attention otherwise; each device sends and
// receives one message after the other.
//
// All rows are latency-sensitive. Costs tens of ns a (token, expert) pair. The queue, the costs and
// the routing must outlive it.
class ExactRunner final : public PassRunner, public EventTarget {
 public:
  struct Options {
    const cost::RoutingModel& routing;
    const policy::ExpertMap& map;  // copied: of the devices, attention_tp for each rank
    int max_rows = 1;              // of a batch
    policy::ExpertQueueRule queue_rule;
    std::uint64_t seed = 0;
  };
  // Requires: a known policy.
  ExactRunner(EventQueue& queue, PassCosts& costs, const Options& options);

  void expect(std::uint64_t gang_step, sched::RankSet members) override;
  void leave(std::uint64_t gang_step, Rank rank) override;
  void dead(Rank rank) override;
  void run(PassMember& member) override;
  void yield(PassMember& member) override;
  void remove(PassMember& member) override;
  void hang(PassMember& member) override;
  void changed(PassMember& /*member*/) override {}
  void costs_changed() override {}
  [[nodiscard]] const std::vector<Load>& loads() const override { return loads_; }

  void on_event(std::uint64_t what) override;

 private:
  static constexpr int kSeats = 8;  // batches of a rank that have begun
  enum Kind : std::uint64_t { kLocal, kRun, kPost, kReturn };

  // A batch's place at its rank; its index is its SourceSlot.
  struct Seat {
    PassMember* member = nullptr;
    std::vector<std::int32_t> experts;  // by output: of the layer that runs
  };
  struct RankState {
    std::vector<Seat> seats;
    int active = -1;         // the seat that has a lease
    bool local = false;      // its stage is the rank's own; else it waits for outputs
    int stages = 1;          // that the work below is for
    double left_ms = 0;      // of that work, at `since`
    bool computing = false;  // time passes for it
    TimePoint since{};
    TimePoint lease_began{};
    std::uint32_t generation = 0;  // of its events
    int busy_services = 0;         // of its devices
    bool hung = false;
    std::unique_ptr<sched::OutstandingRows> outstanding;
    std::uint64_t row_key = 0;
  };
  struct Message {
    bool used = false;
    int device = 0;
    Rank source;
    LayerIndex layer;
    std::uint64_t step = sched::kSolo;
    std::vector<sched::PostedRow> rows;
    std::vector<std::int32_t> experts;        // by row
    std::vector<sched::ExpertEntry> entries;  // of a return
    double service_ms = 0;
    double distinct = 0;
  };
  struct Device {
    std::unique_ptr<sched::ExpertQueues> queues;
    std::unique_ptr<sched::GangHolds> holds;  // of several ranks
    sched::ExpertRun run;                     // that runs now
    bool running = false;
    double run_ms = 0;
    double run_distinct = 0;
    std::uint32_t generation = 0;
    TimePoint receives{};  // when the last message has arrived
    bool hung = false;
  };

  [[nodiscard]] RankState& at(Rank rank) { return ranks_[static_cast<std::size_t>(rank.value())]; }
  [[nodiscard]] PassMember& active(RankState& rank) {
    return *rank.seats[static_cast<std::size_t>(rank.active)].member;
  }
  [[nodiscard]] Rank rank_of(std::size_t device) const {
    return Rank{static_cast<std::int32_t>(device) / costs_.model().attention_tp()};
  }
  [[nodiscard]] sched::RankSet members_of(std::uint64_t gang_step) const;
  void wake(TimePoint time, Kind kind, std::uint64_t index, std::uint32_t generation);

  void begin_stage(Rank rank);
  void end_stage(Rank rank, int stages);
  void stand(Rank rank);
  void start_local(Rank rank);
  void pause_local(Rank rank);
  void post_rows(Rank rank);
  void send_posts(Rank rank, const PassMember& member);
  void route(Rank rank, LayerIndex layer, const sched::PostedRow& row, std::int32_t expert);
  void repost(Rank rank);

  std::int32_t new_message();
  void free_message(std::int32_t index);
  [[nodiscard]] TimePoint arrival(std::size_t device, double bytes, double all_bytes_out);
  void take_post(std::int32_t index);
  void take_return(std::int32_t index);
  void queue_post(std::int32_t index);
  void release(std::size_t device);
  void serve(std::size_t device);
  void end_run(std::size_t device);
  void service_stopped(std::size_t device);

  EventQueue& queue_;
  PassCosts& costs_;
  const cost::RoutingModel& routing_;
  policy::ExpertMap map_;
  std::unique_ptr<policy::ExpertQueuePolicy> policy_;
  Rng rng_;
  int choices_;        // k
  int max_outputs_;    // of a batch
  double latency_ms_;  // of a message
  sched::RankSet gone_ = 0;
  std::vector<RankState> ranks_;
  std::vector<Device> devices_;
  std::vector<Load> loads_;
  std::vector<Message> messages_;
  std::vector<std::int32_t> unused_;
  std::vector<std::pair<std::uint64_t, sched::RankSet>> steps_;  // a ring of the last ones
  std::size_t next_step_ = 0;

  // Work space.
  std::vector<Message> lists_;  // by device
  std::vector<sched::PostedRow> rows_;
  std::vector<std::int32_t> experts_;
  std::vector<std::uint16_t> drawn_;
  sched::GangRelease release_;
  sched::Completion completion_;
  std::vector<std::int32_t> missing_;
};

}  // namespace gimbal::sim
