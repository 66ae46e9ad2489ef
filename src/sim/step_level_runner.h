#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "sim/event_queue.h"
#include "sim/pass_costs.h"
#include "sim/pass_runner.h"

namespace gimbal::sim {

// A PassRunner of expected times: in each layer a pass's attention is that of its slowest member,
// then the experts run for the rows of all, at the slowest rank. Passes that run at the same time
// share the ranks: attention stands back for the services of other passes, and services queue (see
// rate_of). An event a pass, O(ranks) each. The queue and the costs must outlive it.
class StepLevelRunner final : public PassRunner, public EventTarget {
 public:
  StepLevelRunner(EventQueue& queue, PassCosts& costs);

  void expect(std::uint64_t gang_step, sched::RankSet members) override;
  void leave(std::uint64_t gang_step, Rank rank) override;
  void dead(Rank rank) override;
  void run(PassMember& member) override;
  void yield(PassMember& member) override;
  void remove(PassMember& member) override;
  void hang(PassMember& member) override;
  void changed(PassMember& member) override;
  void costs_changed() override;
  [[nodiscard]] const std::vector<Load>& loads() const override { return loads_; }

  // Passes that run or stand now.
  [[nodiscard]] int passes() const { return open_; }

  void on_event(std::uint64_t what) override;

 private:
  struct Pass {
    std::uint64_t gang_step = sched::kSolo;
    sched::RankSet awaited = 0;  // members that have neither begun nor left
    std::vector<PassMember*> members;
    PassShape shape;
    ExpertTimes experts;
    std::vector<double> tokens;           // [topics], of all members
    std::vector<cost::ExpertLoad> loads;  // by device, a MoE layer
    std::vector<double> services;         // by device, ms a MoE layer
    std::vector<double> shares;           // by device, of the pass's time that its service works
    double position = 0;                  // nominal ms, at `since`
    TimePoint since{};
    double rate = 1;       // nominal ms a ms
    double next_rate = 1;  // work space
    bool open = false;
    bool begun = false;            // has a shape
    bool moving = false;           // time passes for it
    std::uint32_t generation = 0;  // of its events
  };

  [[nodiscard]] Pass& at(std::int32_t index) { return passes_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] std::int32_t find(std::uint64_t gang_step) const;
  std::int32_t open();
  void close(std::int32_t index);
  void shape(Pass& pass);
  void reshape(Pass& pass);
  void catch_up(Pass& pass);
  void note_progress(Pass& pass, double from, double to, double wall_ms);
  void go_on(std::int32_t index);
  void update_rates();
  [[nodiscard]] double rate_of(const Pass& pass) const;
  [[nodiscard]] int next_end(const Pass& pass) const;
  void wake(std::int32_t index, TimePoint time);
  void schedule(std::int32_t index);
  void detach(PassMember& member);

  EventQueue& queue_;
  PassCosts& costs_;
  std::vector<Pass> passes_;
  std::vector<std::int32_t> unused_;
  std::vector<std::int32_t> moving_;  // passes for which time passes
  std::vector<PassMember*> reached_;  // work space
  std::vector<double> busy_;          // by device, work space
  std::vector<Load> loads_;           // by device
  int open_ = 0;
};

}  // namespace gimbal::sim
