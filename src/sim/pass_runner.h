#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/ids.h"
#include "cost/cost_model.h"
#include "sched/expert_post.h"
#include "sched/gang_holds.h"

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
  sched::RankSet gang_members = 0;  // of it
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

  std::int32_t pass = -1;  // the runner's
};

// Runs the forward passes of the ranks of one group on virtual time: says when batches reach the
// ends of their leases. The members of a gang step make one pass and wait for each other in every
// layer that has experts; a solo batch is a pass of its own. A member whose lease ends inside a
// gang step holds the others up until it goes on or leaves.
//
// StepLevelRunner takes expected times; ExactRunner runs every row through the services. One
// thread.
class PassRunner {
 public:
  virtual ~PassRunner() = default;

  // A gang step of these ranks is about to start: each will run or leave. Requires: a number that
  // is higher than all before.
  virtual void expect(std::uint64_t gang_step, sched::RankSet members) = 0;
  // The rank will not take part, or does so no more. Unknown steps are ignored.
  virtual void leave(std::uint64_t gang_step, Rank rank) = 0;
  // The rank is gone: it takes part in nothing any more.
  virtual void dead(Rank rank) = 0;

  // Grants a lease from member.cursor until member.until. Requires: it has none.
  virtual void run(PassMember& member) = 0;
  // Ends a lease at the next boundary; its end is told by an event, not from here.
  virtual void yield(PassMember& member) = 0;
  // The member takes part no more, wherever it stands; it may run again later, solo.
  virtual void remove(PassMember& member) = 0;
  // The member's device hangs: it keeps its place and goes no further.
  virtual void hang(PassMember& member) = 0;
  // Its rows are others than they were. Requires: it has no lease.
  virtual void changed(PassMember& member) = 0;
  // Devices have become slower or faster, or experts have moved.
  virtual void costs_changed() = 0;

  // What a device's service has run so far, all layers: (token, expert) pairs and distinct experts;
  // and how long that took, ms.
  struct Load {
    double rows = 0;
    double distinct = 0;
    double service_ms = 0;
  };
  [[nodiscard]] virtual const std::vector<Load>& loads() const = 0;  // by device
};

}  // namespace gimbal::sim
