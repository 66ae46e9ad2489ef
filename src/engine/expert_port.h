#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "cluster/expert_work.h"
#include "engine/expert_row_counts.h"
#include "sched/expert_post.h"

namespace gimbal::engine {

// How an executor reaches experts: the ones that it runs itself (LocalExperts), or those of a group
// of ranks (GroupPort). Called at most a few times a stage. One thread: the executor's.
class ExpertPort {
 public:
  // Since the start. What runs did for this port's rows: a run that others share counts in
  // proportion to the rows.
  struct Totals {
    std::uint64_t rows = 0;       // (row, expert) pairs that came back
    double distinct_experts = 0;  // experts whose weights were read, summed over runs
    Duration service{};           // time of the runs
    // Time that the executor's own thread spent in runs, for whomever.
    Duration serving{};
  };

  virtual ~ExpertPort() = default;

  // Sends rows to the experts that their router chose. Their inputs must stay as they are, and
  // their output slots must not be touched, until they came back or were cancelled.
  virtual void post(const sched::ExpertPost& post) = 0;
  // Forgets what the slot posted under `epoch`. Requires: may_stand_inside().
  virtual void cancel(sched::SourceSlot slot, std::uint32_t epoch) = 0;
  // Does one thing that brings outputs nearer: takes what came back, or runs experts. Returns the
  // labels of outputs that are written, valid until the next call; none does not mean that none is
  // missing: then progress() says whether anything was done.
  [[nodiscard]] virtual std::span<const sched::ExpertEntry> advance() = 0;
  // Whether the last advance() did anything. If not, it takes another thread or time.
  [[nodiscard]] virtual bool progress() const = 0;
  // Whether a batch may be stopped while it misses outputs.
  [[nodiscard]] virtual bool may_stand_inside() const = 0;
  // The rank that posts come from.
  [[nodiscard]] virtual Rank rank() const = 0;
  // The version of the map by which rows that are posted now are sent.
  [[nodiscard]] virtual std::uint32_t map_version() const = 0;
  // Who counts where rows of requests are sent; null: nobody, for all run here.
  [[nodiscard]] virtual ExpertRowCounts* row_counts() { return nullptr; }
  // The batch has left its gang step (docs/design/0010): nobody waits for its posts any more.
  virtual void leave(std::uint64_t gang_step, std::uint64_t members) = 0;

  [[nodiscard]] virtual const Totals& totals() const = 0;
  // What services have run of this port's rows, by layer and rank. Any thread.
  [[nodiscard]] virtual cluster::ExpertWork work() const = 0;
};

}  // namespace gimbal::engine
