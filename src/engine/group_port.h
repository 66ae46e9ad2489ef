#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/expert_group.h"
#include "engine/expert_port.h"
#include "kernels/kernel_context.h"
#include "policy/expert_map.h"
#include "sched/gang_holds.h"

namespace gimbal::engine {

// One rank's way to the experts of its group: sends rows by the map, takes outputs back, and runs
// the services that its thread may run: while its own batch waits, and between the tasks of its own
// stages (an Interrupt of its pool), because a service goes before attention.
//
// One thread: the rank's engine. Group and pool must outlive it.
class GroupPort final : public ExpertPort, public Interrupt {
 public:
  // `context`: of the rank's workers; services run on them in the urgent lane.
  GroupPort(ExpertGroup& group, Rank rank, const kernels::KernelContext& context);

  void post(const sched::ExpertPost& post) override;
  void cancel(sched::SourceSlot slot, std::uint32_t epoch) override;
  [[nodiscard]] std::span<const sched::ExpertEntry> advance() override;
  [[nodiscard]] bool progress() const override { return progress_; }
  [[nodiscard]] bool may_stand_inside() const override { return false; }
  [[nodiscard]] Rank rank() const override { return rank_; }
  [[nodiscard]] std::uint32_t map_version() const override;
  void leave(std::uint64_t gang_step, std::uint64_t members) override;
  [[nodiscard]] const Totals& totals() const override { return totals_; }
  [[nodiscard]] cluster::ExpertWork work() const override;
  [[nodiscard]] ExpertRowCounts* row_counts() override { return &counts_; }

  void between_tasks() override;

  // How long services hold each layer's posts of that gang step for those who have not sent theirs;
  // 0: without limit. Before its first post.
  void limit_holds(std::uint64_t gang_step, Duration limit) {
    limited_step_ = gang_step;
    hold_limit_ = limit;
  }
  // Members of gang steps that services have ceased to wait for, as this thread ran them. Whoever
  // passes them on clears them.
  [[nodiscard]] std::vector<sched::GangRelease::Late>& late() { return late_; }

  // Runs what waits at services that this thread may run. True: something was run. Throws what a
  // run threw, also one between tasks.
  bool serve();
  // How long to sleep at most, when nothing else is to be done: until a delayed message arrives, or
  // a hold ends.
  [[nodiscard]] std::optional<Duration> time_to_next_due() const;

 private:
  // Shows that the thread lives while it runs experts.
  class Beats final : public Interrupt {
   public:
    Beats(LifeSigns& life, Rank rank) : life_(life), rank_(rank) {}
    void between_tasks() override { life_.beat(rank_.value()); }

   private:
    LifeSigns& life_;
    const Rank rank_;
  };

  [[nodiscard]] bool may_serve(Rank rank) const;
  [[nodiscard]] bool serve(Rank rank);
  void collect();
  void send(Rank to, const PostHeader& header, std::span<const PostedEntry> entries);

  ExpertGroup& group_;
  const Rank rank_;
  Beats beats_;
  kernels::KernelContext serving_;
  mutable std::shared_ptr<const policy::ExpertMap> map_;  // owners: the group and its ports
  std::vector<std::vector<PostedEntry>> lists_;           // by destination
  std::uint64_t row_key_ = 0;
  ExpertRowCounts counts_;
  std::uint32_t counted_version_;  // of the map that counts_ uses
  std::vector<sched::ExpertEntry> arrived_;
  std::vector<sched::ExpertEntry> message_;
  Totals totals_;
  std::uint64_t limited_step_ = sched::kSolo;  // see limit_holds()
  Duration hold_limit_{};
  std::int64_t awaited_ = 0;  // (row, expert) pairs that have not come back
  TimePoint hold_check_{};    // then the holds of the last post may be over
  std::vector<sched::GangRelease::Late> late_;
  bool progress_ = false;
  std::exception_ptr thrown_;  // between tasks, where nothing may be thrown
};

}  // namespace gimbal::engine
