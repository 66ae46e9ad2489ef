#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/ids.h"
#include "cost/cost_model.h"
#include "sched/expert_post.h"
#include "sched/gang_holds.h"
#include "sim/event_queue.h"
#include "sim/pass_costs.h"

namespace gimbal::sim {

struct PassMember;

// Who owns a member of a pass.
class PassListener {
 public:
  virtual ~PassListener() = default;
  // The member stands at the end of its lease, which member.cursor now is.
  virtual void reached(PassMember& member) = 0;
};

// One rank's batch in a forward pass. Owned by its executor, which keeps it alive while it has a
// place in a pass.
struct PassMember {
  Rank rank;
  std::uint64_t gang_step = sched::kSolo;
  cost::RankWork work;
  std::vector<double> tokens;  // [topics]: its rows; a dummy has none
  PassListener* listener = nullptr;

  Cursor cursor;          // where it stands; while it runs: where its lease began
  Cursor until;           // of its lease
  bool running = false;   // has a lease
  bool standing = false;  // inside a pass, without a lease: all the others wait

  // What it has taken so far, ms.
  double attention_ms = 0;  // its own layers
  double service_ms = 0;    // its share, by rows, of what all services took
  double wall_ms = 0;       // while it had a lease
  double distinct = 0;      // experts read for its rows, its share

  std::int32_t pass = -1;  // PassRunner's
};

// When the forward passes of the ranks of one group end, on virtual time, step-level: a pass takes
// its stages' expected times. The members of a gang step make one pass: in each layer its attention
// is that of the slowest member, then the experts run for the rows of all, at the slowest rank. A
// solo batch is a pass of its own; passes that run at the same time share the ranks: attention
// stands back for the services of other passes, and services queue (see rate_of).
//
// A member whose lease ends inside a gang step holds the others up until it goes on or leaves.
// One thread. The queue and the costs must outlive it.
class PassRunner final : public EventTarget {
 public:
  PassRunner(EventQueue& queue, PassCosts& costs);

  // A gang step of these ranks is about to start: each will run or leave. Requires: a number that
  // is new.
  void expect(std::uint64_t gang_step, sched::RankSet members);
  // The rank will not take part. Unknown steps are ignored.
  void leave(std::uint64_t gang_step, Rank rank);

  // Grants a lease from member.cursor until member.until. Requires: it has none.
  void run(PassMember& member);
  // Ends a lease at the next boundary; its end is told by an event, not from here.
  void yield(PassMember& member);
  // The member takes part no more, wherever it stands; it may run again later, solo.
  void remove(PassMember& member);
  // The member's device hangs: it keeps its place and goes no further.
  void hang(PassMember& member);
  // The rank takes part in no step that has not begun.
  void leave_all(Rank rank);
  // Its rows are others than they were. No effect outside a pass.
  void changed(PassMember& member);
  // Devices have become slower or faster, or experts have moved.
  void costs_changed();

  // Passes that run or stand now.
  [[nodiscard]] int passes() const { return open_; }
  // What a device's service has run so far, all layers: (token, expert) pairs and distinct experts;
  // and how long that took, ms.
  struct Load {
    double rows = 0;
    double distinct = 0;
    double service_ms = 0;
  };
  [[nodiscard]] const std::vector<Load>& loads() const { return loads_; }  // by device

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
    double position = 0;                  // nominal ms, at `since`
    TimePoint since{};
    double rate = 1;  // nominal ms a ms
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
